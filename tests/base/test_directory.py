"""Which directories are safe for a worker that is root, and what is opened in them."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path
from unittest import mock, skipIf

from twisted.trial.unittest import SynchronousTestCase

from txworker.base.directory import Directory, Foreign, danger_of, open_own, refusal

NOBODY = 65534
NOT_ROOT = skipIf(os.geteuid() != 0, "needs root, to make what belongs to others")


class WalkTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.place = Path(tempfile.mkdtemp())
        self.addCleanup(os.system, f"rm -rf {self.place}")

    def made(self, name: str, mode: int = 0o755, owner: int = -1) -> Path:
        path = self.place / name
        path.mkdir()
        path.chmod(mode)
        os.chown(path, owner, -1)
        return path

    def test_made(self) -> None:
        """What is not there is made, for nobody else, whatever the umask; its parents cannot be written by others."""
        before = os.umask(0)
        self.addCleanup(os.umask, before)
        directory = Directory(self.place / "a" / "b")
        self.addCleanup(directory.close)
        modes = [stat.S_IMODE((self.place / name).stat().st_mode) for name in ("a", "a/b")]
        self.assertEqual(([0o755, 0o700], "", True), (modes, directory.danger, directory.in_place))

    def test_only_looked_at(self) -> None:
        """A check makes nothing."""
        self.assertEqual("", danger_of(self.place / "a" / "b"))
        self.assertEqual([], os.listdir(self.place))

    def test_written_by_others(self) -> None:
        """The directory itself, or any on the way, by anybody or by a group; sticky ones are good as parents only."""
        for mode, parent, itself in [
            (0o777, True, True),
            (0o775, True, True),
            (0o757, True, True),
            (0o1777, False, True),
            (0o1775, False, True),
            (0o755, False, False),
            (0o700, False, False),
        ]:
            path = self.made(f"{mode:o}", mode)
            (path / "below").mkdir(0o700)
            self.assertEqual(itself, bool(danger_of(path)), oct(mode))
            for below in (path / "below", path / "not there", path / "not" / "there"):
                self.assertEqual(parent, bool(danger_of(below)), (oct(mode), below))
        self.assertEqual(
            f"{self.place}/777 can be written by others (mode 0777)", danger_of(self.place / "777" / "below" / "deep")
        )

    @NOT_ROOT
    def test_owned_by_others(self) -> None:
        """Who owns a directory decides what is in it, sticky or not."""
        for mode in (0o755, 0o700, 0o1777):
            path = self.made(f"{mode:o}", mode, NOBODY)
            (path / "below").mkdir(0o700)
            for wanted in (path, path / "below", path / "not there"):
                self.assertEqual(f"{path} belongs to user nobody", danger_of(wanted))

    def test_links(self) -> None:
        """A link is as good as where it is and where it leads, over however many links and .. that is."""
        safe, unsafe = self.made("safe"), self.made("unsafe", 0o777)
        (safe / "deep").mkdir()
        for name, target, danger in [
            ("absolute", safe, False),
            ("relative", "safe/deep", False),
            ("up", "safe/deep/../../safe", False),
            ("over", "absolute/deep", False),
            ("to unsafe", unsafe, True),
            ("through unsafe", "unsafe/../safe", True),
            ("over unsafe", "unsafe/link", True),
        ]:
            (self.place / name).symlink_to(str(target))
            if name == "over unsafe":
                (unsafe / "link").symlink_to(safe)
            self.assertEqual(danger, bool(danger_of(self.place / name)), name)
        self.assertTrue(os.path.samefile(safe, Directory(self.place / "up").path))
        (self.place / "loop").symlink_to("loop")
        self.assertRaises(OSError, danger_of, self.place / "loop")

    @NOT_ROOT
    def test_links_of_others(self) -> None:
        """Who made a link can make it lead elsewhere."""
        sticky, safe = self.made("sticky", 0o1777), self.made("safe")
        for owner, danger in [(NOBODY, f"{sticky}/{NOBODY} is a symbolic link of user nobody's"), (0, "")]:
            link = sticky / str(owner)
            link.symlink_to(safe)
            os.chown(link, owner, -1, follow_symlinks=False)
            self.assertEqual([danger] * 2, [danger_of(link), danger_of(link / "below")])

    def test_no_directory(self) -> None:
        """A file on the way, or at its end, is named."""
        (self.place / "file").touch()
        for path in (self.place / "file", self.place / "file" / "below"):
            with self.assertRaises(NotADirectoryError) as caught:
                Directory(path)
            self.assertEqual(str(self.place / "file"), caught.exception.filename)

    def test_no_descriptor_left(self) -> None:
        """Neither a look nor a refusal keeps one."""
        (self.place / "file").touch()
        before = len(os.listdir("/proc/self/fd"))
        danger_of(self.place)
        danger_of(self.place / "not" / "there")
        self.assertRaises(OSError, Directory, self.place / "file")
        Directory(self.place / "new").close()
        self.assertEqual(before, len(os.listdir("/proc/self/fd")))

    def test_whom_it_matters_to(self) -> None:
        """Others' directories are a worker's ruin when it is root; without that right, it is warned of them."""
        for uid, refused in [(0, True), (1000, False)]:
            with mock.patch("os.geteuid", return_value=uid):
                self.assertEqual([refused, False], [bool(refusal("danger")), bool(refusal(""))])


class OwnFileTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Directory(Path(self.mktemp()))
        self.addCleanup(self.directory.close)

    def test_made_and_found(self) -> None:
        """A file of ours is what we get, whether it was there or not."""
        for data in (b"", b"data"):
            fd = self.directory.open("a", os.O_RDWR | os.O_CREAT)
            self.assertEqual(data, os.read(fd, 10))
            os.write(fd, b"data")
            os.close(fd)

    @NOT_ROOT
    def test_anothers(self) -> None:
        """A file of another user's is none of ours, even if we may write to it."""
        self.directory.make("a")
        os.chown(self.directory.path / "a", NOBODY, -1)
        with self.assertRaises(Foreign) as caught:
            self.directory.open("a", os.O_RDONLY)
        self.assertEqual("it belongs to user nobody", caught.exception.strerror)

    def test_swapped(self) -> None:
        """Whatever has the directory's path, the files are those of the one that was opened."""
        path = self.directory.path
        self.directory.make("a")
        path.rename(f"{path}.old")
        path.mkdir()
        (path / "a").write_bytes(b"another's")
        fd = self.directory.open("a", os.O_RDONLY)
        self.assertEqual((b"", False), (os.read(fd, 10), self.directory.in_place))
        os.close(fd)
        self.directory.replace(Directory(path))
        self.assertTrue(self.directory.in_place)

    def test_a_pipe_with_a_reader(self) -> None:
        """Somebody who listens at the other end hears nothing."""
        os.mkfifo("pipe")
        reader = os.open("pipe", os.O_RDONLY | os.O_NONBLOCK)
        self.addCleanup(os.close, reader)
        self.assertRaises(Foreign, open_own, "pipe", os.O_WRONLY)
