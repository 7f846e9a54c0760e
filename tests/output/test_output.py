"""Recording output and reading it back, in a temporary directory: files are the thing itself."""

from __future__ import annotations

import errno
import os
import stat
from itertools import accumulate
from pathlib import Path
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from txworker.output import recorder, tail
from txworker.output.recorder import Recorder
from txworker.output.shelf import Shelf
from txworker.output.tail import Tail, TextDecoder


class ShelfTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.shelf = Shelf(Path(self.mktemp()) / "deep" / "output")

    def test_private(self) -> None:
        """What jobs print is for nobody else on the machine."""
        self.shelf.create("a", separate_stderr=False)
        path = self.shelf.path("a", stderr=False)
        modes = [stat.S_IMODE(os.stat(name).st_mode) for name in (path, path.parent)]
        self.assertEqual([0o600, 0o700], modes)

    def test_stderr_apart_or_in_order(self) -> None:
        """Descriptor 2 goes to a file of its own only where that was asked for."""
        for separate, expected in [(False, [b"outerr"]), (True, [b"out", b"err"])]:
            job_id = f"job-{separate}"
            output = self.shelf.create(job_id, separate)
            output.write(1, b"out")
            output.write(2, b"err")
            self.assertEqual(6, output.size)
            paths = [self.shelf.path(job_id, stderr) for stderr in (False, True)]
            self.assertEqual(expected, [path.read_bytes() for path in paths if path.exists()])

    def test_recover(self) -> None:
        """What a dead worker has left is counted; what it had no time to make is made, empty and private."""
        self.shelf.create("a", separate_stderr=True).write(1, b"out")
        self.shelf.path("a", stderr=True).unlink()
        self.assertEqual(3, self.shelf.recover("a", separate_stderr=True))
        self.assertEqual(0, self.shelf.recover("b", separate_stderr=False))
        made = [self.shelf.path("a", stderr=True), self.shelf.path("b", stderr=False)]
        self.assertEqual([b"", b""], [path.read_bytes() for path in made])
        self.assertEqual([0o600, 0o600], [stat.S_IMODE(os.stat(path).st_mode) for path in made])
        self.assertFalse(self.shelf.path("b", stderr=True).exists())

    def test_discard_leaves_nothing(self) -> None:
        """A job that never was has no file, and its descriptors are given back."""
        before = len(os.listdir("/proc/self/fd"))
        self.shelf.create("a", separate_stderr=True).discard()
        self.assertEqual([], os.listdir(self.shelf.path("a", stderr=False).parent))
        self.assertEqual(before, len(os.listdir("/proc/self/fd")))

    def test_second_file_refused(self) -> None:
        """When the second file cannot be made the first is not left behind."""
        self.shelf.path("a", stderr=True).mkdir()
        self.assertRaises(OSError, self.shelf.create, "a", separate_stderr=True)
        self.assertFalse(self.shelf.path("a", stderr=False).exists())


class RecorderTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.recorder = Recorder(self.mktemp())

    def test_waiting_for_more(self) -> None:
        """A waiter hears of the first byte beyond what it has, and of the end."""
        first, second = self.recorder.more(0), self.recorder.more(3)
        self.recorder.append(b"abc")
        self.successResultOf(first)
        self.assertNoResult(second)
        self.recorder.close()
        self.successResultOf(second)

    def test_silent(self) -> None:
        """A job that prints nothing has its file, and costs no descriptor."""
        held = [len(os.listdir("/proc/self/fd"))]
        silent = Recorder(self.mktemp())
        held.append(len(os.listdir("/proc/self/fd")))
        silent.append(b"a")
        held.append(len(os.listdir("/proc/self/fd")))
        silent.close()
        held.append(len(os.listdir("/proc/self/fd")))
        self.assertEqual([0, 0, 1, 0], [count - held[0] for count in held])
        self.assertEqual(b"a", Path(silent.path).read_bytes())

    def test_cannot_be_opened(self) -> None:
        """A file that cannot be opened for the first byte is as a disk that refuses: tried again with the next."""
        path = Path(self.recorder.path)
        path.unlink()
        path.mkdir()
        self.recorder.append(b"abc")
        self.assertEqual((0, True), (self.recorder.size, self.recorder.truncated))
        path.rmdir()
        self.recorder.append(b"def")
        self.assertEqual(b"\n[3 bytes of output were lost here: Is a directory]\ndef", path.read_bytes())

    def test_no_descriptor_left(self) -> None:
        """Where only a descriptor is missing that is told before anything is lost; other refusals are the disk's."""
        for number, ready in [(errno.EMFILE, False), (errno.ENFILE, False), (errno.EACCES, True)]:
            with mock.patch("os.open", side_effect=OSError(number, os.strerror(number))):
                self.assertEqual([ready] * 2, [self.recorder.ready(), self.recorder.ready()])
        self.assertTrue(self.recorder.ready())
        self.recorder.append(b"all of it")
        self.assertEqual((b"all of it", False), (Path(self.recorder.path).read_bytes(), self.recorder.truncated))

    def test_ceiling(self) -> None:
        """Beyond its ceiling output is dropped, a last line says so once, and the bytes before it are all there."""
        recorder = Recorder(self.mktemp(), max_bytes=10)
        for data in (b"01234567", b"89abcdef", b"more"):
            recorder.append(data)
        recorder.finish()
        self.assertEqual(b"0123456789\n[output beyond 10 bytes was dropped]\n", Path(recorder.path).read_bytes())
        self.assertTrue(recorder.truncated)


class FullDisk:
    """os.write for a disk on which there is room for so many bytes."""

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
    """Output that a thread copies from the job's pipe by itself."""

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
        """What the pipe holds follows what was appended before; empty and ended are told apart."""
        recorder = Recorder(self.mktemp())
        recorder.append(b"before ")
        self.assertRaises(BlockingIOError, recorder.pour, self.reading, 100)
        os.write(self.writing, b"0123456789")
        self.assertEqual(4, recorder.pour(self.reading, 4))
        self.assertEqual(6, recorder.pour(self.reading, 100))
        recorder.append(b" after")
        self.hang_up()
        self.assertEqual(0, recorder.pour(self.reading, 100))
        self.assertEqual(b"before 0123456789 after", self.written(recorder))

    def test_up_to_the_limit(self) -> None:
        """Near its limit output is cut exactly there, and what comes after is still taken from the pipe."""
        recorder = Recorder(self.mktemp(), max_bytes=12)
        os.write(self.writing, b"0123456789" * 3)
        self.assertEqual([10, 2, 10, 8], [recorder.pour(self.reading, 10) for _ in range(4)])
        self.assertTrue(self.written(recorder).startswith(b"012345678901\n["))

    def test_where_the_kernel_cannot(self) -> None:
        """A file system without splice(2), or a full disk at that moment, costs nothing but time."""
        for number in (errno.EINVAL, errno.ENOSPC):
            recorder = Recorder(self.mktemp())
            os.write(self.writing, b"0123456789")
            with mock.patch.object(os, "splice", side_effect=OSError(number, "no")):
                self.assertEqual(10, recorder.pour(self.reading, 100))
            self.assertEqual((b"0123456789", False), (self.written(recorder), recorder.truncated))


class FullDiskTests(SynchronousTestCase):
    """What the disk refuses is lost and counted; where that was is marked as soon as it takes something again."""

    def setUp(self) -> None:
        self.disk = FullDisk(4)
        self.recorder = self.a_recorder()
        self.patch(recorder.os, "write", self.disk.write)  # type: ignore[attr-defined]

    def a_recorder(self, max_bytes: int = 0) -> Recorder:
        return Recorder(self.mktemp(), max_bytes)

    def assert_written(self, *parts: bytes | int) -> None:
        """Bytes as they are, and for a number the line about so many lost ones."""
        line = "\n[{} bytes of output were lost here: No space left on device]\n"
        expected = b"".join(part if isinstance(part, bytes) else line.format(part).encode() for part in parts)
        self.assertEqual(expected, Path(self.recorder.path).read_bytes())
        self.assertEqual(len(expected), self.recorder.size)
        self.assertTrue(self.recorder.truncated)

    def test_gap(self) -> None:
        """One line for one gap, however many writes were lost in it; partial writes count exactly."""
        for data in (b"01", b"23456", b"789"):
            self.recorder.append(data)
        self.assert_written(b"0123")
        self.disk.room = 1000
        for data in (b"abc", b"def"):
            self.recorder.append(data)
        self.assert_written(b"0123", 6, b"abcdef")

    def test_second_gap(self) -> None:
        """Every gap has a line of its own."""
        self.recorder.append(b"01234")
        self.disk.room = 1000
        self.recorder.append(b"a")
        self.disk.room = 0
        self.recorder.append(b"bc")
        self.disk.room = 1000
        self.recorder.append(b"d")
        self.assert_written(b"0123", 1, b"a", 2, b"d")

    def test_room_for_half_a_line(self) -> None:
        """A line that fits in part only is finished later, and what is lost meanwhile gets the next one."""
        self.recorder.append(b"01234")
        self.disk.room = 10
        self.recorder.append(b"ab")
        self.disk.room = 1000
        self.recorder.append(b"c")
        self.assert_written(b"0123", 1, 2, b"c")

    def test_room_for_the_line_only(self) -> None:
        """When there is room for the line and not for the bytes, these are lost and counted."""
        self.recorder.append(b"01234")
        self.disk.room = len("\n[1 bytes of output were lost here: No space left on device]\n") + 1
        self.recorder.append(b"abc")
        self.disk.room = 1000
        self.recorder.append(b"d")
        self.assert_written(b"0123", 1, b"a", 2, b"d")

    def test_at_the_end(self) -> None:
        """A gap at the very end is marked when the job is done, if the disk takes it then; closing adds nothing."""
        self.recorder.append(b"01234567")
        waiter = self.recorder.more(4)
        self.disk.room = 1000
        self.recorder.finish()
        self.successResultOf(waiter)
        self.recorder.close()
        self.assert_written(b"0123", 4)

    def test_still_full_at_the_end(self) -> None:
        """A disk that is full to the end leaves what there was, and the record says that something is missing."""
        self.recorder.append(b"01234567")
        self.recorder.finish()
        self.recorder.close()
        self.assert_written(b"0123")

    def test_ceiling(self) -> None:
        """What the ceiling drops is not lost on the disk: each has its own line, the ceiling's comes last and once."""
        self.recorder = self.a_recorder(max_bytes=100)
        self.recorder.append(b"012345")
        self.disk.room = 1000
        self.recorder.append(b"x" * 30)
        self.recorder.append(b"y" * 30)
        self.recorder.append(b"z" * 30)
        self.assert_written(b"0123", 2, b"x" * 30, b"y" * 5, b"\n[output beyond 100 bytes was dropped]\n")

    def test_full_at_the_ceiling(self) -> None:
        """A last line that finds no room is written when the job is done."""
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
        """What is read is what is there, from any offset to any end, however the blocks fall."""
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
        """Who has taken little is given little, and who takes much whole blocks."""
        opened = self.a_tail(bytes(64 * tail.BLOCK_BYTES + 1))
        sizes, position = [], 0
        while block := opened.read(position):
            sizes.append(len(block))
            position += len(block)
        self.assertEqual(tail.FIRST_BYTES, sizes[0])
        self.assertLess(max(size for size, taken in zip(sizes, accumulate(sizes), strict=True) if taken < 4e6), 64e3)
        self.assertEqual(tail.BLOCK_BYTES, len(opened.read(0)))

    def test_lines_back(self) -> None:
        """The last lines begin where tail(1) says, wherever the blocks are cut."""
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
        """Only what is sent afterwards is read, and nothing where there cannot be so many lines; a look before each."""
        self.patch(tail, "BLOCK_BYTES", 10)
        opened = self.a_tail(b"line\n" * 100)
        for lines, looks in ((1, 1), (2, 2), (3, 2), (20, 11), (499, 50), (500, 0), (2**62, 0)):
            looked: list[None] = []
            opened.lines_back(lines, lambda looked=looked: looked.append(None))  # type: ignore[misc]
            self.assertEqual(looks, len(looked), lines)


class TextDecoderTests(SynchronousTestCase):
    DATA = "aé€𝄞".encode() + b"\xff\xc3(\xe2\x82" + b"z" + b"\xf0\x9d\x84"

    def test_any_cut(self) -> None:
        """However the bytes are cut, the pieces are valid text and together what decoding the whole would give."""
        whole = self.DATA.decode("utf-8", "replace")
        for size in range(1, len(self.DATA) + 1):
            decoder = TextDecoder(0)
            blocks = [self.DATA[at : at + size] for at in range(0, len(self.DATA), size)]
            pieces = [decoder.decode(block) for block in blocks] + [decoder.decode(b"", final=True)]
            self.assertEqual(whole, "".join(text for text, _ in pieces))

    def test_offsets(self) -> None:
        """A piece's offset is that of its first byte, held back or not."""
        decoder = TextDecoder(100)
        self.assertEqual(("a", 100), decoder.decode(b"a\xc3"))
        self.assertEqual(("é", 101), decoder.decode(b"\xa9"))
        self.assertEqual(("b", 103), decoder.decode(b"b"))
