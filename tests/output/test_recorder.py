"""Recording output, with real files in a temporary directory."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from tests.support.descriptors import open_descriptors
from txworker.jobs.held_process import HeldProcess
from txworker.output.job_output import Output
from txworker.output.output_directory import OutputDirectory
from txworker.output.output_file import OutputFile
from txworker.output.recorder import Recorder


def a_recorder(path: str, max_bytes: int = 0, lost: Callable[[str, int], None] = lambda cause, count: None) -> Recorder:
    return Recorder(OutputFile.create(path), max_bytes, lost=lost)


class RecorderTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.recorder = a_recorder(self.mktemp())

    def test_waiting_for_more(self) -> None:
        """A reader is woken by the first byte beyond its offset, and by the end."""
        first, second = self.recorder.more(0), self.recorder.more(3)
        self.recorder.append(b"abc")
        self.successResultOf(first)
        self.assertNoResult(second)
        self.recorder.close()
        self.successResultOf(second)

    def test_silent(self) -> None:
        """A job that prints nothing has a file but no open descriptor."""
        before, held = open_descriptors(), []
        silent = a_recorder(self.mktemp())
        held.append(len(open_descriptors() - before))
        silent.append(b"a")
        held.append(len(open_descriptors() - before))
        silent.close()
        held.append(len(open_descriptors() - before))
        self.assertEqual([0, 1, 0], held)
        self.assertEqual(b"a", Path(silent.path).read_bytes())

    def test_cannot_be_opened(self) -> None:
        """If the file cannot be opened, the bytes are lost, and the next ones try again."""
        path = Path(self.recorder.path)
        path.unlink()
        path.mkdir()
        self.recorder.append(b"abc")
        self.assertEqual((0, True), (self.recorder.size, self.recorder.truncated))
        path.rmdir()
        self.recorder.append(b"def")
        self.assertEqual(b"\n[3 bytes of output were lost here: Is a directory]\ndef", path.read_bytes())

    def test_no_descriptor_left(self) -> None:
        """ready() is false only while no descriptor is free, so nothing is lost for that reason."""
        for number, ready in [(errno.EMFILE, False), (errno.ENFILE, False), (errno.EACCES, True)]:
            with mock.patch("os.open", side_effect=OSError(number, os.strerror(number))):
                self.assertEqual([ready] * 2, [self.recorder.ready(), self.recorder.ready()])
        self.assertTrue(self.recorder.ready())
        self.recorder.append(b"all of it")
        self.assertEqual((b"all of it", False), (Path(self.recorder.path).read_bytes(), self.recorder.truncated))

    def test_ceiling(self) -> None:
        """Output beyond the ceiling is dropped, one last line says so, and all bytes before it are in the file."""
        recorder = a_recorder(self.mktemp(), 10)
        for data in (b"01234567", b"89abcdef", b"more"):
            recorder.append(data)
        recorder.finish()
        self.assertEqual(b"0123456789\n[output beyond 10 bytes was dropped]\n", Path(recorder.path).read_bytes())
        self.assertTrue(recorder.truncated)


class ResumeTests(SynchronousTestCase):
    """Output of a job that an earlier worker started, and that the shim recorded meanwhile."""

    CEILING = b"\n[output beyond 4 bytes was dropped]\n"

    def setUp(self) -> None:
        self.outputs = OutputDirectory(Path(self.mktemp()))
        self.path = self.outputs.path("a", stderr=False)

    def resume(self, content: bytes, max_bytes: int = 0, lost: int = 0, discarded: int = 0) -> Output:
        self.path.write_bytes(content)
        held = HeldProcess("a", 4711, 7, 0.0, (), lost=(lost, 0), discarded=(discarded, 0), max_output=max_bytes)
        return self.outputs.resume(held, False)

    def test_continues(self) -> None:
        """New bytes follow the existing ones."""
        output = self.resume(b"before")
        self.assertEqual((6, False), (output.size, output.truncated))
        output.write(1, b" after")
        self.assertEqual((12, b"before after"), (output.size, self.path.read_bytes()))

    def test_refused_meanwhile(self) -> None:
        """Bytes that the disk refused meanwhile get a notice, which says "at least"."""
        output = self.resume(b"before", lost=3)
        self.assertTrue(output.truncated)
        output.write(1, b"after")
        notice = b"\n[at least 3 bytes of output were lost here: the disk refused them]\n"
        self.assertEqual(b"before" + notice + b"after", self.path.read_bytes())

    def test_ceiling_reached_meanwhile(self) -> None:
        """The ceiling's notice is completed, whether the file has none of it, a part, or all."""
        for written in (b"", self.CEILING[:10], self.CEILING):
            output = self.resume(b"0123" + written, max_bytes=4, discarded=7)
            output.write(1, b"more")
            output.finish()
            self.assertEqual((b"0123" + self.CEILING, True), (self.path.read_bytes(), output.truncated))

    def test_separate_stderr(self) -> None:
        """Both files continue."""
        self.path.write_bytes(b"out")
        self.outputs.path("a", stderr=True).write_bytes(b"err")
        output = self.outputs.resume(HeldProcess("a", 4711, 7, 0.0, ()), True)
        output.write(2, b"!")
        self.assertEqual(
            (7, b"out", b"err!"), (output.size, self.path.read_bytes(), self.outputs.path("a", True).read_bytes())
        )


class PourTests(SynchronousTestCase):
    """Output that a thread moves from the job's pipe to the file."""

    def setUp(self) -> None:
        self.reading, self.writing = os.pipe()
        os.set_blocking(self.reading, False)
        self.addCleanup(os.close, self.reading)
        self.addCleanup(self.hang_up)

    def hang_up(self) -> None:
        if self.writing >= 0:
            os.close(self.writing)
            self.writing = -1

    def written(self, recorder: Recorder) -> bytes:
        self.assertEqual(recorder.size, Path(recorder.path).stat().st_size)
        return Path(recorder.path).read_bytes()

    def test_all_of_it(self) -> None:
        """Poured bytes follow appended ones; an empty pipe raises BlockingIOError, an ended one returns 0."""
        recorder = a_recorder(self.mktemp())
        recorder.append(b"before ")
        self.assertRaises(BlockingIOError, recorder.copy_pipe, self.reading, 100)
        os.write(self.writing, b"0123456789")
        self.assertEqual(4, recorder.copy_pipe(self.reading, 4))
        self.assertEqual(6, recorder.copy_pipe(self.reading, 100))
        recorder.append(b" after")
        self.hang_up()
        self.assertEqual(0, recorder.copy_pipe(self.reading, 100))
        self.assertEqual(b"before 0123456789 after", self.written(recorder))

    def test_up_to_the_ceiling(self) -> None:
        """Output is cut exactly at the ceiling, and later bytes are still taken from the pipe."""
        recorder = a_recorder(self.mktemp(), 12)
        os.write(self.writing, b"0123456789" * 3)
        self.assertEqual([10, 2, 10, 8], [recorder.copy_pipe(self.reading, 10) for _ in range(4)])
        self.assertTrue(self.written(recorder).startswith(b"012345678901\n["))

    def test_without_splice(self) -> None:
        """Where splice(2) fails, because of the file system or a full disk, the bytes are read and written."""
        for number in (errno.EINVAL, errno.ENOSPC):
            recorder = a_recorder(self.mktemp())
            os.write(self.writing, b"0123456789")
            with mock.patch.object(os, "splice", side_effect=OSError(number, "no")):
                self.assertEqual(10, recorder.copy_pipe(self.reading, 100))
            self.assertEqual((b"0123456789", False), (self.written(recorder), recorder.truncated))


class LostTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.lost: list[tuple[str, int]] = []

    def recorder(self, max_bytes: int = 0) -> Recorder:
        return a_recorder(self.mktemp(), max_bytes, lambda cause, count: self.lost.append((cause, count)))

    def test_beyond_the_limit(self) -> None:
        """Every byte beyond the ceiling is told as lost, those that share a block with kept ones, too."""
        recorder = self.recorder(5)
        recorder.append(b"1234567")
        recorder.append(b"89")
        self.assertEqual([("limit", 2), ("limit", 2)], self.lost)

    def test_refused(self) -> None:
        """Every byte that the disk refuses is told as lost, once."""
        recorder = self.recorder()
        with mock.patch("os.write", side_effect=OSError(errno.ENOSPC, "No space left on device")):
            recorder.append(b"123")
            recorder.append(b"4")
        recorder.append(b"5")
        self.assertEqual([("disk", 3), ("disk", 1)], self.lost)

    def test_changed(self) -> None:
        """Bytes that others cut off are told as lost."""
        recorder = self.recorder()
        recorder.append(b"12345678")
        os.truncate(recorder.path, 2)
        recorder.append(b"9")
        self.assertEqual([("changed", 6)], self.lost)

    def test_nothing_is_lost(self) -> None:
        """Nothing is told while nothing is lost."""
        recorder = self.recorder(100)
        recorder.append(b"12345678")
        recorder.finish()
        self.assertEqual([], self.lost)
