"""Output on a disk that refuses bytes: what is lost is counted, and said in the file."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from txworker.jobs.held_process import HeldProcess
from txworker.output import recorder
from txworker.output.job_output import Output
from txworker.output.output_directory import OutputDirectory
from txworker.output.output_file import OutputFile
from txworker.output.recorder import Recorder


def a_recorder(path: str, max_bytes: int = 0, lost: Callable[[str, int], None] = lambda cause, count: None) -> Recorder:
    return Recorder(OutputFile.create(path), max_bytes, lost=lost)


class FullDisk:
    """os.write for a disk with `room` free bytes."""

    def __init__(self, room: int) -> None:
        self.room = room
        self._write = os.write

    def write(self, fd: int, data: bytes) -> int:
        taken = min(len(data), self.room)
        if not taken:
            raise OSError(28, "No space left on device")
        self.room -= taken
        return self._write(fd, data[:taken])


class NextWorkerTests(SynchronousTestCase):
    """What the shim is told of refused output, and what a next worker makes of it."""

    NOTICE = b"\n[at least 4 bytes of output were lost here: the disk refused them]\n"

    def setUp(self) -> None:
        self.disk = FullDisk(4)
        self.patch(recorder.os, "write", self.disk.write)  # type: ignore[attr-defined]
        self.outputs = OutputDirectory(Path(self.mktemp()))
        self.told: list[tuple[str, int, int]] = []
        self.outputs.incomplete = lambda *words: self.told.append(words)

    def resumed(self) -> Output:
        """The output for a next worker, which learns what was told of it last."""
        job_id, child_fd, refused = self.told[-1]
        is_stdout = child_fd == 1
        lost = (refused, 0) if is_stdout else (0, refused)
        held = HeldProcess(job_id, 4711, 7, 0.0, (), lost=lost, incomplete=(is_stdout, not is_stdout))
        return self.outputs.resume(held, True)

    def test_told(self) -> None:
        """Bytes that are missing are told at once, and when they have doubled; that a line tells of them, too."""
        output = self.outputs.create("a", True)
        output.write(1, b"0123")
        self.assertEqual([], self.told)
        for data in (b"4", b"56", b"7", b"8", b"9"):
            output.write(1, data)
        self.assertEqual([("a", 1, 1), ("a", 1, 3), ("a", 1, 6)], self.told)
        output.write(2, b"e")
        self.assertEqual(("a", 2, 1), self.told.pop())
        output.write(1, b"!")
        output.finish()
        self.assertEqual(("a", 1, 7), self.told[-1])  # a worker that leaves its jobs tells all
        self.disk.room = 1000
        output.write(1, b"room")
        self.assertEqual(("a", 1, 0), self.told[-1])

    def test_one_notice(self) -> None:
        """The worker after next writes no second line; the output is incomplete for good."""
        self.outputs.create("a", True).write(2, b"01234567")
        self.disk.room = 1000
        for data in (b"x", b"y"):
            output = self.resumed()
            self.assertTrue(output.truncated)
            output.write(2, data)
        written = self.outputs.path("a", stderr=True).read_bytes()
        self.assertEqual(b"0123" + self.NOTICE + b"xy", written)
        self.assertTrue(output.truncated)

    def test_still_full(self) -> None:
        """Bytes that were lost stay known while the disk stays full."""
        self.outputs.create("a", True).write(1, b"01234567")
        for _ in range(2):
            output = self.resumed()
            output.finish()
            self.assertTrue(output.truncated)
        self.disk.room = 1000
        self.resumed().finish()
        self.assertEqual(b"0123" + self.NOTICE, self.outputs.path("a", stderr=False).read_bytes())

    def test_ceiling(self) -> None:
        """Output beyond the ceiling is known to be missing also where the disk has no room for the line about it."""
        self.outputs.create("a", False, 4).write(1, b"01234567")
        self.assertEqual([("a", 1, 0)], self.told)
        self.assertTrue(self.resumed().truncated)


class FullDiskTests(SynchronousTestCase):
    """Bytes that the disk refuses are lost and counted; a notice follows as soon as the disk takes bytes again."""

    def setUp(self) -> None:
        self.disk = FullDisk(4)
        self.recorder = self.a_recorder()
        self.patch(recorder.os, "write", self.disk.write)  # type: ignore[attr-defined]

    def a_recorder(self, max_bytes: int = 0) -> Recorder:
        return a_recorder(self.mktemp(), max_bytes)

    def assert_written(self, *parts: bytes | int) -> None:
        """The file has these bytes, and for each number the notice of that many lost bytes."""
        line = "\n[{} bytes of output were lost here: No space left on device]\n"
        expected = b"".join(part if isinstance(part, bytes) else line.format(part).encode() for part in parts)
        self.assertEqual(expected, Path(self.recorder.path).read_bytes())
        self.assertEqual(len(expected), self.recorder.size)
        self.assertTrue(self.recorder.truncated)

    def test_gap(self) -> None:
        """One gap has one notice, also if several writes were lost; partial writes count exactly."""
        for data in (b"01", b"23456", b"789"):
            self.recorder.append(data)
        self.assert_written(b"0123")
        self.disk.room = 1000
        for data in (b"abc", b"def"):
            self.recorder.append(data)
        self.assert_written(b"0123", 6, b"abcdef")

    def test_second_gap(self) -> None:
        """Each gap has its own notice."""
        self.recorder.append(b"01234")
        self.disk.room = 1000
        self.recorder.append(b"a")
        self.disk.room = 0
        self.recorder.append(b"bc")
        self.disk.room = 1000
        self.recorder.append(b"d")
        self.assert_written(b"0123", 1, b"a", 2, b"d")

    def test_room_for_half_a_line(self) -> None:
        """A notice that fits only in part is finished later; bytes lost meanwhile are in the next one."""
        self.recorder.append(b"01234")
        self.disk.room = 10
        self.recorder.append(b"ab")
        self.disk.room = 1000
        self.recorder.append(b"c")
        self.assert_written(b"0123", 1, 2, b"c")

    def test_room_for_the_line_only(self) -> None:
        """If there is room for the notice but not for the bytes, these are lost and counted."""
        self.recorder.append(b"01234")
        self.disk.room = len("\n[1 bytes of output were lost here: No space left on device]\n") + 1
        self.recorder.append(b"abc")
        self.disk.room = 1000
        self.recorder.append(b"d")
        self.assert_written(b"0123", 1, b"a", 2, b"d")

    def test_at_the_end(self) -> None:
        """A gap at the end gets its notice when the job is done, if the disk takes it; close() adds nothing."""
        self.recorder.append(b"01234567")
        waiter = self.recorder.more(4)
        self.disk.room = 1000
        self.recorder.finish()
        self.successResultOf(waiter)
        self.recorder.close()
        self.assert_written(b"0123", 4)

    def test_still_full_at_the_end(self) -> None:
        """If the disk stays full, `truncated` says that bytes are missing."""
        self.recorder.append(b"01234567")
        self.recorder.finish()
        self.recorder.close()
        self.assert_written(b"0123")

    def test_ceiling(self) -> None:
        """Refused and dropped bytes have separate notices; the ceiling's comes last and once."""
        self.recorder = self.a_recorder(max_bytes=100)
        self.recorder.append(b"012345")
        self.disk.room = 1000
        self.recorder.append(b"x" * 30)
        self.recorder.append(b"y" * 30)
        self.recorder.append(b"z" * 30)
        self.assert_written(b"0123", 2, b"x" * 30, b"y" * 5, b"\n[output beyond 100 bytes was dropped]\n")

    def test_full_at_the_ceiling(self) -> None:
        """A ceiling's notice that found no room is written when the job is done."""
        self.recorder = self.a_recorder(max_bytes=3)
        self.disk.room = 2
        self.recorder.append(b"01234567")
        self.disk.room = 1000
        self.recorder.finish()
        self.assert_written(b"01", 1, b"\n[output beyond 3 bytes was dropped]\n")


class FailingDiskTests(SynchronousTestCase):
    """A disk, or a file server, that does not even tell what it has of a file."""

    DATA = b"a" * 100

    def setUp(self) -> None:
        self.failing: set[str] = set()
        for name in ("lseek", "pread", "ftruncate"):
            self.patch(os, name, self.failing_call(name, getattr(os, name)))
        self.recorder = a_recorder(self.mktemp())
        self.recorder.append(self.DATA)
        self.path = Path(self.recorder.path)

    def failing_call(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            if name in self.failing:
                raise OSError(errno.EIO, "it fails")
            return real(*args)

        return call

    def copied(self, data: bytes) -> None:
        reading, writing = os.pipe()
        os.write(writing, data)
        os.close(writing)
        self.recorder.copy_pipe(reading, 1000)
        os.close(reading)

    def test_unknown(self) -> None:
        """What cannot be found out is not taken for a change: the output is written as before, and none is lost."""
        self.failing = {"lseek", "pread"}
        self.copied(b"b")
        self.recorder.append(b"c")
        self.recorder.finish()
        self.assertEqual((self.DATA + b"bc", False), (self.path.read_bytes(), self.recorder.truncated))

    def test_not_repaired(self) -> None:
        """
        While the next byte would go to a wrong place, none is written; what is lost is counted, and told of as soon as
        the file is as it should be. The end of the job comes all the same.
        """
        with self.path.open("ab") as file:
            file.write(b"not the job's")
        self.failing = {"ftruncate"}
        self.copied(b"b")
        self.recorder.append(b"cd")
        self.recorder.finish()
        self.assertEqual((100, True), (self.recorder.size, self.recorder.truncated))
        self.failing.clear()
        self.recorder.append(b"e")
        notice = b"\n[3 bytes of output were lost here: it fails]\n"
        self.assertEqual(self.DATA + notice + b"e", self.path.read_bytes())

    def test_cannot_be_closed(self) -> None:
        """A file server that refuses bytes when the file is closed: the log says so, and the readers are woken."""
        close = os.close

        def refuse(fd: int) -> None:
            close(fd)
            raise OSError(errno.ENOSPC, "No space left on device")

        reader = self.recorder.more(1000)
        self.patch(os, "close", refuse)
        with capturedLogs() as events:
            self.recorder.close()
            self.recorder.close()
        self.patch(os, "close", close)
        self.successResultOf(reader)
        (event,) = events
        self.assertIn("could not be closed: [Errno 28]", formatEvent(event))
