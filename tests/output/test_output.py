"""Recording output and reading it back, in a temporary directory: files are the thing itself."""

from __future__ import annotations

import os
import stat
from pathlib import Path

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
        self.recorder = Recorder(Path(self.mktemp()))

    def test_waiting_for_more(self) -> None:
        """A waiter hears of the first byte beyond what it has, and of the end."""
        first, second = self.recorder.more(0), self.recorder.more(3)
        self.recorder.append(b"abc")
        self.successResultOf(first)
        self.assertNoResult(second)
        self.recorder.close()
        self.successResultOf(second)

    def test_full_disk(self) -> None:
        """What the disk refuses is dropped and noted, what it takes again is written; nothing is raised at the job."""
        refused = [True]
        real = os.write

        def write(fd: int, data: bytes) -> int:
            if refused[0]:
                raise OSError(28, "No space left on device")
            return real(fd, data)

        self.patch(recorder.os, "write", write)  # type: ignore[attr-defined]
        self.recorder.append(b"lost")
        refused[0] = False
        self.recorder.append(b"kept")
        self.assertTrue(self.recorder.truncated)
        self.assertEqual((4, b"kept"), (self.recorder.size, self.recorder.path.read_bytes()))


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
