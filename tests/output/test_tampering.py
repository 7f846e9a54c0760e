"""Other processes change an output file while its job runs: the worker notices, says so, and keeps the offsets."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from unittest import mock

from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from txworker.base.directory import NotOurFile
from txworker.jobs import Loss
from txworker.output import losses
from txworker.output.output_directory import OutputDirectory
from txworker.output.output_file import OutputFile
from txworker.output.recorder import Recorder
from txworker.output.tail import Tail

FIRST = b"what was there before\n"
SIZE = len(FIRST)
OTHERS = b"of another process\n"


def line(what: str, count: int = SIZE) -> bytes:
    """The notice where `count` bytes were lost."""
    return f"\n[{count} bytes of output were lost here: another program has {what} the file]\n".encode()


def cut(path: Path) -> None:
    os.truncate(path, 0)


def delete(path: Path) -> None:
    path.unlink()


def rename_and_create(path: Path) -> None:
    """As logrotate does without copytruncate."""
    path.rename(path.with_suffix(".1"))
    path.touch()


def rename_another(path: Path) -> None:
    other = path.with_suffix(".new")
    other.write_bytes(OTHERS)
    other.rename(path)


class TamperingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.outputs = OutputDirectory(self.directory)
        self.output = self.outputs.create("a", separate_stderr=True)
        self.path = self.outputs.path("a", stderr=False)

    def end(self) -> None:
        self.output.finish()
        self.output.close()

    def assert_lost(self, what: str, *written: bytes, count: int = SIZE) -> None:
        """The first `count` bytes are lost and nothing else; the notice and `written` follow."""
        self.assertEqual((Loss(0, count, what),), self.output.losses(False))
        self.assertTrue(self.output.truncated)
        expected = line(what, count) + b"".join(written)
        self.assertEqual(expected, self.path.read_bytes()[count:])
        self.assertEqual(count + len(expected), self.output.size)

    def test_before_the_next_bytes(self) -> None:
        """The notice is where the next bytes begin, and these have the offsets that they would have had."""
        for tamper, what in [
            (cut, "cut"),
            (delete, "deleted"),
            (rename_and_create, "replaced"),
            (rename_another, "replaced"),
        ]:
            with self.subTest(tamper.__name__), capturedLogs() as events:
                self.setUp()
                self.output.write(1, FIRST)
                tamper(self.path)
                self.outputs.check()
                self.output.write(1, b"after\n")
                self.end()
                self.assert_lost(what, b"after\n")
                self.assertIn("a", [event.get("job_id") for event in events])
                self.assertEqual(self.output.losses(False), self.outputs.losses("a", stderr=False))

    def test_while_it_is_silent(self) -> None:
        """check() marks a job that prints nothing more, and the notice is written at its end."""
        for tamper, what in [(cut, "cut"), (delete, "deleted"), (rename_and_create, "replaced")]:
            self.setUp()
            self.output.write(1, FIRST)
            self.outputs.check()
            self.assertFalse(self.output.truncated)
            tamper(self.path)
            self.outputs.check()
            self.assertTrue(self.output.truncated)
            self.end()
            self.assert_lost(what)

    def test_unseen_until_the_end(self) -> None:
        """Without check() and without further output, the loss is found when the job ends."""
        for tamper, what in [(cut, "cut"), (delete, "deleted"), (rename_and_create, "replaced")]:
            self.setUp()
            self.output.write(1, FIRST)
            tamper(self.path)
            self.end()
            self.assert_lost(what)

    def test_cut_in_part(self) -> None:
        """Bytes before the cut are not reported as lost."""
        self.output.write(1, FIRST)
        os.truncate(self.path, 4)
        self.output.write(1, b"after\n")
        self.assertEqual((Loss(4, SIZE, "cut"),), self.output.losses(False))
        self.assertEqual(FIRST[:4], self.path.read_bytes()[:4])
        self.assertEqual(line("cut", SIZE - 4) + b"after\n", self.path.read_bytes()[SIZE:])

    def test_again_and_again(self) -> None:
        """A file that is cut repeatedly has one gap, which grows."""
        for _ in range(3):
            self.output.write(1, FIRST)
            cut(self.path)
        self.end()
        (loss,) = self.output.losses(False)
        self.assertEqual((0, "cut"), (loss.begin, loss.what))
        self.assertTrue(self.path.read_bytes()[loss.end :].startswith(b"\n["))
        self.assertNotIn(b"\0", self.path.read_bytes()[loss.end :])

    def test_stderr(self) -> None:
        """A loss in one file is not reported for the other."""
        self.output.write(1, FIRST)
        self.output.write(2, FIRST)
        cut(self.outputs.path("a", stderr=True))
        self.end()
        self.assertEqual((), self.output.losses(False))
        self.assertEqual((Loss(0, SIZE, "cut"),), self.output.losses(True))
        self.assertEqual(FIRST, self.path.read_bytes())

    def test_replaced_by_a_longer_file(self) -> None:
        """A longer file of another process is not touched; all output of the job counts as lost."""
        self.output.write(1, b"short")
        rename_another(self.path)
        self.outputs.check()
        self.output.write(1, b"after")
        self.end()
        self.assertEqual(OTHERS, self.path.read_bytes())
        self.assertEqual((Loss(0, self.output.size, "replaced"),), self.output.losses(False))
        self.assertTrue(self.output.truncated)

    def test_added_to(self) -> None:
        """Bytes that another process appends are overwritten, or cut off when the job ends."""
        self.output.write(1, FIRST)
        with self.path.open("ab") as file:
            file.write(b"!")
        self.output.write(1, b"after")
        self.end()
        self.assertEqual(FIRST + b"after", self.path.read_bytes())
        self.assertEqual((False, []), (self.output.truncated, [*self.directory.glob("*.lost")]))

    def test_added_to_at_last(self) -> None:
        """A file that another process made longer is cut to its size, also if the job prints nothing more."""
        self.output.write(1, FIRST)
        os.truncate(self.path, 100_000)
        self.end()
        self.assertEqual((FIRST, SIZE, False), (self.path.read_bytes(), self.output.size, self.output.truncated))

    def test_nothing_printed_yet(self) -> None:
        """A job that has printed nothing loses nothing: its file is created anew."""
        for tamper in (delete, rename_and_create):
            self.setUp()
            tamper(self.path)
            self.output.write(1, b"after")
            self.end()
            self.assertEqual((b"after", False), (self.path.read_bytes(), self.output.truncated))

    def test_removed_with_it(self) -> None:
        """remove() deletes the list of losses as well."""
        self.output.write(1, FIRST)
        cut(self.path)
        self.end()
        self.outputs.remove(["a"])
        self.assertEqual([], os.listdir(self.directory))


class PouringTests(SynchronousTestCase):
    """A file is cut while the kernel splices a pipe to it, and afterwards it is longer than before."""

    def copy_pipe(self, tamper: Callable[[Path], None], before: bytes, data: bytes) -> Recorder:
        recorder = Recorder(OutputFile.create(self.mktemp()))
        recorder.append(before)
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        self.addCleanup(os.close, writing)
        os.write(writing, data)
        splice = os.splice

        def cut_and_splice(source: int, target: int, most: int, flags: int) -> int:
            tamper(Path(recorder.path))
            return splice(source, target, most, flags=flags)

        with mock.patch.object(os, "splice", cut_and_splice):
            self.assertEqual(len(data), recorder.copy_pipe(reading, len(data)))
        return recorder

    def test_cut_during_splice(self) -> None:
        """The missing sample shows the cut, because the file's size does not."""
        for count in (10, 5000, 100_000):
            recorder = self.copy_pipe(cut, b"b" * count, b"a" * 1000)
            self.assertEqual(((Loss(0, count, "cut"),), True), (recorder.losses, recorder.truncated))
            recorder.append(b"more")
            recorder.finish()
            said = f"\n[{count} bytes of output from offset 0 on were lost: another program has cut the file]\nmore"
            self.assertEqual(b"a" * 1000 + said.encode(), Path(recorder.path).read_bytes()[count:])

    def test_not_cut(self) -> None:
        """NULs that the job prints are not taken for a cut."""
        for before in (b"\0" * 5000, b"\0" * 20 + b"a", b"a" + b"\0" * 5000):
            recorder = self.copy_pipe(lambda path: None, before, b"\0" * 1000)
            recorder.finish()
            self.assertEqual(((), False), (recorder.losses, recorder.truncated))

    def test_where_the_gap_is(self) -> None:
        """The gap is found to the byte, wherever the file system's blocks begin."""
        for begin, end in [(0, 1), (0, 5000), (3, 70_000), (5000, 5001), (4096, 3_000_000)]:
            path = Path(self.mktemp())
            with path.open("w+b") as file:
                file.write(b"a" * begin)
                file.seek(end)
                file.write(b"b" * 10)
                file.flush()
                self.assertEqual((begin, end), losses.gap_around(file.fileno(), begin, end + 10))
                self.assertEqual((begin, end), losses.gap_around(file.fileno(), end - 1, end + 10))


class NotOurFileTests(SynchronousTestCase):
    """Something else is at the path of an output file."""

    def setUp(self) -> None:
        self.outputs = OutputDirectory(Path(self.mktemp()))
        self.output = self.outputs.create("a", separate_stderr=False)
        self.path = self.outputs.path("a", stderr=False)
        self.secret = Path(self.mktemp())
        self.secret.write_bytes(b"secret")
        self.path.unlink()

    def put(self, name: str) -> None:
        if os.path.lexists(self.path):
            self.path.rmdir() if self.path.is_dir() and not self.path.is_symlink() else self.path.unlink()
        {
            "link": lambda: self.path.symlink_to(self.secret.absolute()),
            "link to nowhere": lambda: self.path.symlink_to(self.secret.with_suffix(".none").absolute()),
            "hard link": lambda: self.path.hardlink_to(self.secret),
            "pipe": lambda: os.mkfifo(self.path),
            "directory": lambda: self.path.mkdir(),
        }[name]()

    def test_neither_written_nor_read(self) -> None:
        """It is not written, not read and not recovered; and no call blocks on a named pipe."""
        for name in ("link", "link to nowhere", "hard link", "pipe", "directory"):
            with self.subTest(name):
                self.put(name)
                self.output.write(1, b"printed")
                self.assertTrue(self.output.truncated)
                self.assertRaises(NotOurFile, Tail, self.path)
                self.assertRaises(NotOurFile, self.outputs.open, "a", stderr=False)
                self.assertEqual(0, self.outputs.recover("a", separate_stderr=False))
                self.assertTrue(self.outputs.is_damaged("a", separate_stderr=False, begun=False))
                self.assertEqual(b"secret", self.secret.read_bytes())
                self.assertFalse(self.secret.with_suffix(".none").exists())

    def test_not_there(self) -> None:
        """A missing file is damage only if it existed once; a list of losses always is."""
        self.assertEqual(
            [False, True], [self.outputs.is_damaged("a", separate_stderr=False, begun=begun) for begun in (False, True)]
        )
        self.path.touch()
        self.assertFalse(self.outputs.is_damaged("a", separate_stderr=False, begun=True))
        Path(f"{self.path}.lost").touch()
        self.assertTrue(self.outputs.is_damaged("a", separate_stderr=False, begun=False))

    def test_removed(self) -> None:
        """remove() removes the name and never the target of a link."""
        for name in ("link", "hard link", "pipe"):
            self.put(name)
            self.outputs.remove(["a"])
            self.assertFalse(os.path.lexists(self.path))
            self.assertEqual(b"secret", self.secret.read_bytes())


class DirectoryTests(SynchronousTestCase):
    """Another process deletes or moves the output directory."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.outputs = OutputDirectory(self.directory)
        self.output = self.outputs.create("a", separate_stderr=False)
        self.output.write(1, FIRST)

    def assert_continues(self) -> None:
        self.assertTrue(self.output.truncated)
        self.output.write(1, b"after\n")
        self.output.finish()
        self.assertEqual(line("deleted") + b"after\n", (self.directory / "a.out").read_bytes()[SIZE:])
        self.outputs.create("b", separate_stderr=False)
        self.assertEqual(["a.out", "a.out.lost", "b.out"], sorted(os.listdir(self.directory)))
        self.assertEqual(0o700, self.directory.stat().st_mode & 0o777)

    def test_deleted(self) -> None:
        """The directory is created anew; the notices say that its content is lost."""
        (self.directory / "a.out").unlink()
        self.directory.rmdir()
        with capturedLogs() as events:
            self.outputs.check()
        self.assertEqual(1, sum("has been deleted or replaced" in event["log_format"] for event in events))
        self.assert_continues()

    def test_moved(self) -> None:
        """The same; earlier output is in the moved directory."""
        self.directory.rename(f"{self.directory}.old")
        self.outputs.check()
        self.assert_continues()
        self.assertEqual(FIRST, Path(f"{self.directory}.old/a.out").read_bytes())

    def test_at_the_next_job(self) -> None:
        """create() finds a deleted directory out before the next check()."""
        (self.directory / "a.out").unlink()
        self.directory.rmdir()
        self.outputs.create("b", separate_stderr=False).write(1, b"b")
        self.assertEqual(b"b", (self.directory / "b.out").read_bytes())

    def test_no_directory(self) -> None:
        """While no usable directory exists, create() fails and one line is logged."""
        self.directory.rename(f"{self.directory}.old")
        self.directory.touch()
        with capturedLogs() as events:
            self.outputs.check()
            self.outputs.check()
        self.assertEqual(1, sum("no new jobs until" in event["log_format"] for event in events))
        self.assertRaises(OSError, self.outputs.create, "b", separate_stderr=False)
        self.directory.unlink()
        self.outputs.check()
        self.outputs.create("b", separate_stderr=False)
