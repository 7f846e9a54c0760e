"""Which directories are safe for a worker that runs as root, and which files are opened in them."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path
from unittest import mock, skipIf

from twisted.trial.unittest import SynchronousTestCase

from tests.support.descriptors import open_descriptors
from txworker.base.directory import Directory, NotOurFile, open_own, permission_problem_of, refusal_for_root

NOBODY = 65534
NOT_ROOT = skipIf(os.geteuid() != 0, "needs root, to create files of other users")


class WalkTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.top = Path(tempfile.mkdtemp())
        self.addCleanup(os.system, f"rm -rf {self.top}")

    def make(self, name: str, mode: int = 0o755, owner: int = -1) -> Path:
        path = self.top / name
        path.mkdir()
        path.chmod(mode)
        os.chown(path, owner, -1)
        return path

    def test_created(self) -> None:
        """A missing directory is created with mode 0700, whatever the umask; missing parents with 0755."""
        before = os.umask(0)
        self.addCleanup(os.umask, before)
        directory = Directory(self.top / "a" / "b")
        self.addCleanup(directory.close)
        modes = [stat.S_IMODE((self.top / name).stat().st_mode) for name in ("a", "a/b")]
        self.assertEqual(([0o755, 0o700], "", True), (modes, directory.permission_problem, directory.in_place))

    def test_check_creates_nothing(self) -> None:
        """permission_problem_of() creates nothing."""
        self.assertEqual("", permission_problem_of(self.top / "a" / "b"))
        self.assertEqual([], os.listdir(self.top))

    def test_written_by_others(self) -> None:
        """A directory on the way that group or others can write is unsafe; a sticky one is safe as a parent only."""
        for mode, parent, itself in [
            (0o777, True, True),
            (0o775, True, True),
            (0o757, True, True),
            (0o1777, False, True),
            (0o1775, False, True),
            (0o755, False, False),
            (0o700, False, False),
        ]:
            path = self.make(f"{mode:o}", mode)
            (path / "below").mkdir(0o700)
            self.assertEqual(itself, bool(permission_problem_of(path)), oct(mode))
            for below in (path / "below", path / "not there", path / "not" / "there"):
                self.assertEqual(parent, bool(permission_problem_of(below)), (oct(mode), below))
        self.assertEqual(
            f"{self.top}/777 can be written by others (mode 0777)",
            permission_problem_of(self.top / "777" / "below" / "deep"),
        )

    @NOT_ROOT
    def test_owned_by_others(self) -> None:
        """A directory that another user owns is unsafe, sticky or not: its owner can change its content."""
        for mode in (0o755, 0o700, 0o1777):
            path = self.make(f"{mode:o}", mode, NOBODY)
            (path / "below").mkdir(0o700)
            for wanted in (path, path / "below", path / "not there"):
                self.assertEqual(f"{path} belongs to user nobody", permission_problem_of(wanted))

    def test_links(self) -> None:
        """A symbolic link is safe if its directory and its target are, through any number of links and `..`."""
        safe, unsafe = self.make("safe"), self.make("unsafe", 0o777)
        (safe / "deep").mkdir()
        for name, target, problem in [
            ("absolute", safe, False),
            ("relative", "safe/deep", False),
            ("up", "safe/deep/../../safe", False),
            ("over", "absolute/deep", False),
            ("to unsafe", unsafe, True),
            ("through unsafe", "unsafe/../safe", True),
            ("over unsafe", "unsafe/link", True),
        ]:
            (self.top / name).symlink_to(str(target))
            if name == "over unsafe":
                (unsafe / "link").symlink_to(safe)
            self.assertEqual(problem, bool(permission_problem_of(self.top / name)), name)
        self.assertTrue(os.path.samefile(safe, Directory(self.top / "up").path))
        (self.top / "loop").symlink_to("loop")
        self.assertRaises(OSError, permission_problem_of, self.top / "loop")

    @NOT_ROOT
    def test_links_of_others(self) -> None:
        """A symbolic link of another user is unsafe: its owner can point it elsewhere."""
        sticky, safe = self.make("sticky", 0o1777), self.make("safe")
        for owner, problem in [(NOBODY, f"{sticky}/{NOBODY} is a symbolic link of user nobody's"), (0, "")]:
            link = sticky / str(owner)
            link.symlink_to(safe)
            os.chown(link, owner, -1, follow_symlinks=False)
            self.assertEqual([problem] * 2, [permission_problem_of(link), permission_problem_of(link / "below")])

    def test_no_directory(self) -> None:
        """The error names the component that is not a directory."""
        (self.top / "file").touch()
        for path in (self.top / "file", self.top / "file" / "below"):
            with self.assertRaises(NotADirectoryError) as caught:
                Directory(path)
            self.assertEqual(str(self.top / "file"), caught.exception.filename)

    def test_no_descriptor_leaks(self) -> None:
        """No descriptor leaks, whether the walk succeeds or fails."""
        (self.top / "file").touch()
        before = open_descriptors()
        permission_problem_of(self.top)
        permission_problem_of(self.top / "not" / "there")
        self.assertRaises(OSError, Directory, self.top / "file")
        Directory(self.top / "new").close()
        self.assertEqual(set(), open_descriptors() - before)

    def test_refusal_for_root(self) -> None:
        """Only a worker that runs as root refuses an unsafe directory."""
        for uid, refused in [(0, True), (1000, False)]:
            with mock.patch("os.geteuid", return_value=uid):
                self.assertEqual([refused, False], [bool(refusal_for_root("a problem")), bool(refusal_for_root(""))])


class OwnFileTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Directory(Path(self.mktemp()))
        self.addCleanup(self.directory.close)

    def test_created_then_opened(self) -> None:
        """A file of the worker is created or opened."""
        for data in (b"", b"data"):
            fd = self.directory.open("a", os.O_RDWR | os.O_CREAT)
            self.assertEqual(data, os.read(fd, 10))
            os.write(fd, b"data")
            os.close(fd)

    @NOT_ROOT
    def test_owned_by_another_user(self) -> None:
        """Root refuses a file that another user owns, although it may write to it."""
        self.directory.create("a")
        os.chown(self.directory.path / "a", NOBODY, -1)
        with self.assertRaises(NotOurFile) as caught:
            self.directory.open("a", os.O_RDONLY)
        self.assertEqual("it belongs to user nobody", caught.exception.strerror)

    def test_directory_replaced(self) -> None:
        """Files are opened in the directory that was opened first, whatever is at its path now."""
        path = self.directory.path
        self.directory.create("a")
        path.rename(f"{path}.old")
        path.mkdir()
        (path / "a").write_bytes(b"another's")
        fd = self.directory.open("a", os.O_RDONLY)
        self.assertEqual((b"", False), (os.read(fd, 10), self.directory.in_place))
        os.close(fd)
        self.directory.replace(Directory(path))
        self.assertTrue(self.directory.in_place)

    def test_a_pipe_with_a_reader(self) -> None:
        """A named pipe is refused even if a process reads its other end."""
        os.mkfifo("pipe")
        reader = os.open("pipe", os.O_RDONLY | os.O_NONBLOCK)
        self.addCleanup(os.close, reader)
        self.assertRaises(NotOurFile, open_own, "pipe", os.O_WRONLY)
