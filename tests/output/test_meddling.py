"""What others do to an output file while its job runs: noticed, told at its place, and the rest keeps its offsets."""

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
from txworker.output.recorder import Recorder
from txworker.output.shelf import Shelf
from txworker.output.tail import Tail

BEFORE = b"what was there before\n"
SIZE = len(BEFORE)
OTHERS = b"somebody else's\n"


def line(what: str, count: int = SIZE) -> bytes:
    """Where so many bytes were lost."""
    return f"\n[{count} bytes of output were lost here: somebody has {what} the file]\n".encode()


def cut(path: Path) -> None:
    os.truncate(path, 0)


def delete(path: Path) -> None:
    path.unlink()


def rename_and_create(path: Path) -> None:
    """As logrotate does it without copytruncate."""
    path.rename(path.with_suffix(".1"))
    path.touch()


def rename_another(path: Path) -> None:
    other = path.with_suffix(".new")
    other.write_bytes(OTHERS)
    other.rename(path)


class MeddlingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.place = Path(self.mktemp())
        self.shelf = Shelf(self.place)
        self.output = self.shelf.create("a", separate_stderr=True)
        self.path = self.shelf.path("a", stderr=False)

    def end(self) -> None:
        self.output.finish()
        self.output.close()

    def assert_lost(self, what: str, *written: bytes, count: int = SIZE) -> None:
        """So many bytes at the beginning, and nothing else; what follows is the line and these."""
        self.assertEqual((Loss(0, count, what),), self.output.losses(False))
        self.assertTrue(self.output.truncated)
        expected = line(what, count) + b"".join(written)
        self.assertEqual(expected, self.path.read_bytes()[count:])
        self.assertEqual(count + len(expected), self.output.size)

    def test_before_the_next_bytes(self) -> None:
        """It is told where the next bytes begin, and these have the offsets that they would have had."""
        for meddle, what in [
            (cut, "cut"),
            (delete, "deleted"),
            (rename_and_create, "replaced"),
            (rename_another, "replaced"),
        ]:
            with self.subTest(meddle.__name__), capturedLogs() as events:
                self.setUp()
                self.output.write(1, BEFORE)
                meddle(self.path)
                self.shelf.look()
                self.output.write(1, b"after\n")
                self.end()
                self.assert_lost(what, b"after\n")
                self.assertIn("a", [event.get("job_id") for event in events])
                self.assertEqual(self.output.losses(False), self.shelf.losses("a", stderr=False))

    def test_while_it_is_silent(self) -> None:
        """A job that prints nothing more is marked by a look, and the line is there at its end."""
        for meddle, what in [(cut, "cut"), (delete, "deleted"), (rename_and_create, "replaced")]:
            self.setUp()
            self.output.write(1, BEFORE)
            self.shelf.look()
            self.assertFalse(self.output.truncated)
            meddle(self.path)
            self.shelf.look()
            self.assertTrue(self.output.truncated)
            self.end()
            self.assert_lost(what)

    def test_unseen_until_the_end(self) -> None:
        """Nobody looked, and nothing more was printed: the record knows it all the same."""
        for meddle, what in [(cut, "cut"), (delete, "deleted"), (rename_and_create, "replaced")]:
            self.setUp()
            self.output.write(1, BEFORE)
            meddle(self.path)
            self.end()
            self.assert_lost(what)

    def test_cut_in_part(self) -> None:
        """What is left is not said to be lost."""
        self.output.write(1, BEFORE)
        os.truncate(self.path, 4)
        self.output.write(1, b"after\n")
        self.assertEqual((Loss(4, SIZE, "cut"),), self.output.losses(False))
        self.assertEqual(BEFORE[:4], self.path.read_bytes()[:4])
        self.assertEqual(line("cut", SIZE - 4) + b"after\n", self.path.read_bytes()[SIZE:])

    def test_again_and_again(self) -> None:
        """Every night: what is lost is one gap in the end, which grows."""
        for _ in range(3):
            self.output.write(1, BEFORE)
            cut(self.path)
        self.end()
        (loss,) = self.output.losses(False)
        self.assertEqual((0, "cut"), (loss.begin, loss.what))
        self.assertTrue(self.path.read_bytes()[loss.end :].startswith(b"\n["))
        self.assertNotIn(b"\0", self.path.read_bytes()[loss.end :])

    def test_stderr(self) -> None:
        """Each file for itself: what was done to one is not said of the other."""
        self.output.write(1, BEFORE)
        self.output.write(2, BEFORE)
        cut(self.shelf.path("a", stderr=True))
        self.end()
        self.assertEqual((), self.output.losses(False))
        self.assertEqual((Loss(0, SIZE, "cut"),), self.output.losses(True))
        self.assertEqual(BEFORE, self.path.read_bytes())

    def test_anothers_bytes(self) -> None:
        """A longer file of somebody's is left as it is; what the job prints cannot be found, and that is said."""
        self.output.write(1, b"short")
        rename_another(self.path)
        self.shelf.look()
        self.output.write(1, b"after")
        self.end()
        self.assertEqual(OTHERS, self.path.read_bytes())
        self.assertEqual((Loss(0, self.output.size, "replaced"),), self.output.losses(False))
        self.assertTrue(self.output.truncated)

    def test_added_to(self) -> None:
        """What somebody writes behind the job's bytes is written over, or cut off at its end."""
        self.output.write(1, BEFORE)
        with self.path.open("ab") as file:
            file.write(b"!")
        self.output.write(1, b"after")
        self.end()
        self.assertEqual(BEFORE + b"after", self.path.read_bytes())
        self.assertEqual((False, []), (self.output.truncated, [*self.place.glob("*.lost")]))

    def test_added_to_at_last(self) -> None:
        """The same without another byte of the job's: a file that somebody has made longer ends in NULs."""
        self.output.write(1, BEFORE)
        os.truncate(self.path, 100_000)
        self.end()
        self.assertEqual((BEFORE, SIZE, False), (self.path.read_bytes(), self.output.size, self.output.truncated))

    def test_nothing_printed_yet(self) -> None:
        """Who has printed nothing loses nothing: the file is made anew."""
        for meddle in (delete, rename_and_create):
            self.setUp()
            meddle(self.path)
            self.output.write(1, b"after")
            self.end()
            self.assertEqual((b"after", False), (self.path.read_bytes(), self.output.truncated))

    def test_removed_with_it(self) -> None:
        """Retention and a launch that fails leave nothing."""
        self.output.write(1, BEFORE)
        cut(self.path)
        self.end()
        self.shelf.remove(["a"])
        self.assertEqual([], os.listdir(self.place))


class PouringTests(SynchronousTestCase):
    """A file is cut while the kernel copies a pipe to it, and is longer than before when that is done."""

    def pour(self, meddle: Callable[[Path], None], before: bytes, data: bytes) -> Recorder:
        recorder = Recorder(self.mktemp())
        recorder.append(before)
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        self.addCleanup(os.close, writing)
        os.write(writing, data)
        splice = os.splice

        def cut_and_splice(source: int, target: int, most: int, flags: int) -> int:
            meddle(Path(recorder.path))
            return splice(source, target, most, flags=flags)

        with mock.patch.object(os, "splice", cut_and_splice):
            self.assertEqual(len(data), recorder.pour(reading, len(data)))
        return recorder

    def test_cut_meanwhile(self) -> None:
        """By what was written at first, which is not there any more; sizes tell nothing."""
        for count in (10, 5000, 100_000):
            recorder = self.pour(cut, b"b" * count, b"a" * 1000)
            self.assertEqual(((Loss(0, count, "cut"),), True), (recorder.losses, recorder.truncated))
            recorder.append(b"more")
            recorder.finish()
            said = f"\n[{count} bytes of output from offset 0 on were lost: somebody has cut the file]\nmore"
            self.assertEqual(b"a" * 1000 + said.encode(), Path(recorder.path).read_bytes()[count:])

    def test_undisturbed(self) -> None:
        """NULs that the job prints are no sign of anything."""
        for before in (b"\0" * 5000, b"\0" * 20 + b"a", b"a" + b"\0" * 5000):
            recorder = self.pour(lambda path: None, before, b"\0" * 1000)
            recorder.finish()
            self.assertEqual(((), False), (recorder.losses, recorder.truncated))

    def test_where_the_gap_is(self) -> None:
        """Found to the byte, whatever the file system keeps of it."""
        for begin, end in [(0, 1), (0, 5000), (3, 70_000), (5000, 5001), (4096, 3_000_000)]:
            path = Path(self.mktemp())
            with path.open("w+b") as file:
                file.write(b"a" * begin)
                file.seek(end)
                file.write(b"b" * 10)
                file.flush()
                self.assertEqual((begin, end), losses.lost_around(file.fileno(), begin, end + 10))
                self.assertEqual((begin, end), losses.lost_around(file.fileno(), end - 1, end + 10))


class ForeignTests(SynchronousTestCase):
    """What stands in the place of an output file and is none of the worker's."""

    def setUp(self) -> None:
        self.shelf = Shelf(Path(self.mktemp()))
        self.output = self.shelf.create("a", separate_stderr=False)
        self.path = self.shelf.path("a", stderr=False)
        self.secret = Path(self.mktemp())
        self.secret.write_bytes(b"secret")
        self.path.unlink()

    def lay(self, name: str) -> None:
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
        """Not for the first byte, not for a viewer, not by a start; and nobody waits for the other end of a pipe."""
        for name in ("link", "link to nowhere", "hard link", "pipe", "directory"):
            with self.subTest(name):
                self.lay(name)
                self.output.write(1, b"printed")
                self.assertTrue(self.output.truncated)
                self.assertRaises(NotOurFile, Tail, self.path)
                self.assertRaises(NotOurFile, self.shelf.open, "a", stderr=False)
                self.assertEqual(0, self.shelf.recover("a", separate_stderr=False))
                self.assertTrue(self.shelf.is_damaged("a", separate_stderr=False, begun=False))
                self.assertEqual(b"secret", self.secret.read_bytes())
                self.assertFalse(self.secret.with_suffix(".none").exists())

    def test_not_there(self) -> None:
        """That is damage only where there was a file once; what a worker has seen is damage in any case."""
        self.assertEqual(
            [False, True], [self.shelf.is_damaged("a", separate_stderr=False, begun=begun) for begun in (False, True)]
        )
        self.path.touch()
        self.assertFalse(self.shelf.is_damaged("a", separate_stderr=False, begun=True))
        Path(f"{self.path}.lost").touch()
        self.assertTrue(self.shelf.is_damaged("a", separate_stderr=False, begun=False))

    def test_removed(self) -> None:
        """What is removed is the name; never what it leads to."""
        for name in ("link", "hard link", "pipe"):
            self.lay(name)
            self.shelf.remove(["a"])
            self.assertFalse(os.path.lexists(self.path))
            self.assertEqual(b"secret", self.secret.read_bytes())


class DirectoryTests(SynchronousTestCase):
    """The output directory as a whole."""

    def setUp(self) -> None:
        self.place = Path(self.mktemp())
        self.shelf = Shelf(self.place)
        self.output = self.shelf.create("a", separate_stderr=False)
        self.output.write(1, BEFORE)

    def assert_goes_on(self) -> None:
        self.assertTrue(self.output.truncated)
        self.output.write(1, b"after\n")
        self.output.finish()
        self.assertEqual(line("deleted") + b"after\n", (self.place / "a.out").read_bytes()[SIZE:])
        self.shelf.create("b", separate_stderr=False)
        self.assertEqual(["a.out", "a.out.lost", "b.out"], sorted(os.listdir(self.place)))
        self.assertEqual(0o700, self.place.stat().st_mode & 0o777)

    def test_deleted(self) -> None:
        """It is made anew; what was in it is lost, and said to be."""
        (self.place / "a.out").unlink()
        self.place.rmdir()
        with capturedLogs() as events:
            self.shelf.look()
        self.assertEqual(1, sum("has been deleted or replaced" in event["log_format"] for event in events))
        self.assert_goes_on()

    def test_moved(self) -> None:
        """The same; what was printed until then is where it is now."""
        self.place.rename(f"{self.place}.old")
        self.shelf.look()
        self.assert_goes_on()
        self.assertEqual(BEFORE, Path(f"{self.place}.old/a.out").read_bytes())

    def test_at_the_next_job(self) -> None:
        """A job that starts in that moment finds a directory, too."""
        (self.place / "a.out").unlink()
        self.place.rmdir()
        self.shelf.create("b", separate_stderr=False).write(1, b"b")
        self.assertEqual(b"b", (self.place / "b.out").read_bytes())

    def test_nowhere(self) -> None:
        """As long as there is none that can be used nothing is begun, and it is said once."""
        self.place.rename(f"{self.place}.old")
        self.place.touch()
        with capturedLogs() as events:
            self.shelf.look()
            self.shelf.look()
        self.assertEqual(1, sum("no new jobs until" in event["log_format"] for event in events))
        self.assertRaises(OSError, self.shelf.create, "b", separate_stderr=False)
        self.place.unlink()
        self.shelf.look()
        self.shelf.create("b", separate_stderr=False)
