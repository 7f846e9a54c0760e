"""Recording output and reading it back, with real files in a temporary directory."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from txworker.output import recorder, tail
from txworker.output.job_output import Output
from txworker.output.output_directory import OutputDirectory
from txworker.output.output_file import OutputFile
from txworker.output.recorder import Recorder
from txworker.output.tail import Tail, TextDecoder


def a_recorder(path: str, max_bytes: int = 0, lost: Callable[[str, int], None] = lambda cause, count: None) -> Recorder:
    return Recorder(OutputFile.create(path), max_bytes, lost=lost)


class OutputDirectoryTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.outputs = OutputDirectory(Path(self.mktemp()) / "deep" / "output")

    def test_private(self) -> None:
        """Files have mode 0600 and the directory 0700."""
        self.outputs.create("a", separate_stderr=False)
        path = self.outputs.path("a", stderr=False)
        modes = [stat.S_IMODE(os.stat(name).st_mode) for name in (path, path.parent)]
        self.assertEqual([0o600, 0o700], modes)

    def test_separate_stderr(self) -> None:
        """Descriptor 2 has a file of its own only if that is requested."""
        for separate, expected in [(False, [b"outerr"]), (True, [b"out", b"err"])]:
            job_id = f"job-{separate}"
            output = self.outputs.create(job_id, separate)
            output.write(1, b"out")
            output.write(2, b"err")
            self.assertEqual(6, output.size)
            paths = [self.outputs.path(job_id, stderr) for stderr in (False, True)]
            self.assertEqual(expected, [path.read_bytes() for path in paths if path.exists()])

    def test_recover(self) -> None:
        """Output of a killed worker is counted; missing files are created, empty and with mode 0600."""
        self.outputs.create("a", separate_stderr=True).write(1, b"out")
        self.outputs.path("a", stderr=True).unlink()
        self.assertEqual(3, self.outputs.recover("a", separate_stderr=True))
        self.assertEqual(0, self.outputs.recover("b", separate_stderr=False))
        made = [self.outputs.path("a", stderr=True), self.outputs.path("b", stderr=False)]
        self.assertEqual([b"", b""], [path.read_bytes() for path in made])
        self.assertEqual([0o600, 0o600], [stat.S_IMODE(os.stat(path).st_mode) for path in made])
        self.assertFalse(self.outputs.path("b", stderr=True).exists())

    def test_discard_leaves_nothing(self) -> None:
        """discard() leaves neither a file nor a descriptor."""
        before = len(os.listdir("/proc/self/fd"))
        self.outputs.create("a", separate_stderr=True).discard()
        self.assertEqual([], os.listdir(self.outputs.path("a", stderr=False).parent))
        self.assertEqual(before, len(os.listdir("/proc/self/fd")))

    def test_second_file_refused(self) -> None:
        """If the second file cannot be created, the first is removed."""
        self.outputs.path("a", stderr=True).mkdir()
        self.assertRaises(OSError, self.outputs.create, "a", separate_stderr=True)
        self.assertFalse(self.outputs.path("a", stderr=False).exists())


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
        held = [len(os.listdir("/proc/self/fd"))]
        silent = a_recorder(self.mktemp())
        held.append(len(os.listdir("/proc/self/fd")))
        silent.append(b"a")
        held.append(len(os.listdir("/proc/self/fd")))
        silent.close()
        held.append(len(os.listdir("/proc/self/fd")))
        self.assertEqual([0, 0, 1, 0], [count - held[0] for count in held])
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
        return self.outputs.resume("a", False, max_bytes, (lost, 0), (discarded, 0))

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
        output = self.outputs.resume("a", True, 0, (0, 0), (0, 0))
        output.write(2, b"!")
        self.assertEqual(
            (7, b"out", b"err!"), (output.size, self.path.read_bytes(), self.outputs.path("a", True).read_bytes())
        )


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


class TailTests(SynchronousTestCase):
    def a_tail(self, data: bytes) -> Tail:
        path = Path(self.mktemp())
        path.write_bytes(data)
        opened = Tail(path)
        self.addCleanup(opened.__exit__)
        return opened

    def test_blocks(self) -> None:
        """Reads from any offset to any end give the file's bytes, for any block boundaries."""
        data = os.urandom(1000)
        self.patch(tail, "BLOCK_BYTES", 7)
        opened = self.a_tail(data)
        for offset, end in [(0, None), (13, None), (13, 20), (0, 5000), (999, None), (1000, None), (1001, None)]:
            found, position = b"", offset
            while block := opened.read(position, end):
                found += block
                position += len(block)
            self.assertEqual(data[offset:end], found)

    def test_first_blocks_are_small(self) -> None:
        """Reads are small at first and whole blocks after much was read."""
        opened = self.a_tail(bytes(64 * tail.BLOCK_BYTES + 1))
        sizes, position = [], 0
        while block := opened.read(position):
            sizes.append(len(block))
            position += len(block)
        self.assertEqual(tail.FIRST_BYTES, sizes[0])
        self.assertLess(max(size for size, taken in zip(sizes, accumulate(sizes), strict=True) if taken < 4e6), 64e3)
        self.assertEqual(tail.BLOCK_BYTES, len(opened.read(0)))

    def test_lines_back(self) -> None:
        """The last lines begin where tail(1) begins, for any block boundaries."""
        table = [
            (b"", 1, b""),
            (b"a\nb\nc\n", 1, b"c\n"),
            (b"a\nb\nc\n", 2, b"b\nc\n"),
            (b"a\nb\nc", 1, b"c"),
            (b"a\nb\nc", 2, b"b\nc"),
            (b"a\nb\nc\n", 3, b"a\nb\nc\n"),
            (b"a\nb\nc\n", 9, b"a\nb\nc\n"),
            (b"\n\n\n", 2, b"\n\n"),
            (b"no newline at all", 1, b"no newline at all"),
            (b"a\nb\n\n", 1, b"\n"),
        ]
        for block_bytes in (1, 2, 3, 1024):
            self.patch(tail, "BLOCK_BYTES", block_bytes)
            for data, lines, expected in table:
                opened = self.a_tail(data)
                self.assertEqual(expected, data[opened.lines_back(lines) :], (block_bytes, data, lines))

    def test_lines_back_reads_little(self) -> None:
        """Only the blocks of the result are read, none if the file cannot have so many lines; check() precedes each."""
        self.patch(tail, "BLOCK_BYTES", 10)
        opened = self.a_tail(b"line\n" * 100)
        for lines, blocks in ((1, 1), (2, 2), (3, 2), (20, 11), (499, 50), (500, 0), (2**62, 0)):
            checks: list[None] = []
            opened.lines_back(lines, lambda checks=checks: checks.append(None))  # type: ignore[misc]
            self.assertEqual(blocks, len(checks), lines)


class TextDecoderTests(SynchronousTestCase):
    DATA = "aé€𝄞".encode() + b"\xff\xc3(\xe2\x82" + b"z" + b"\xf0\x9d\x84"

    def test_any_cut(self) -> None:
        """For any block boundaries the pieces are valid text, and together the decoded whole."""
        whole = self.DATA.decode("utf-8", "replace")
        for size in range(1, len(self.DATA) + 1):
            decoder = TextDecoder(0)
            blocks = [self.DATA[at : at + size] for at in range(0, len(self.DATA), size)]
            pieces = [decoder.decode(block) for block in blocks] + [decoder.decode(b"", final=True)]
            self.assertEqual(whole, "".join(text for text, _ in pieces))

    def test_offsets(self) -> None:
        """The offset of a piece is that of its first byte, also if that byte was held back."""
        decoder = TextDecoder(100)
        self.assertEqual(("a", 100), decoder.decode(b"a\xc3"))
        self.assertEqual(("é", 101), decoder.decode(b"\xa9"))
        self.assertEqual(("b", 103), decoder.decode(b"b"))
