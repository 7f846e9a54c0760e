"""Reading output back, with real files in a temporary directory."""

from __future__ import annotations

import os
from itertools import accumulate
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from txworker.output import tail
from txworker.output.tail import Tail, TextDecoder


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
                self.assertEqual(expected, data[opened.lines_back(lines, len(data)) :], (block_bytes, data, lines))

    def test_lines_back_reads_little(self) -> None:
        """Only the blocks of the result are read, none if the file cannot have so many lines; check() precedes each."""
        self.patch(tail, "BLOCK_BYTES", 10)
        opened = self.a_tail(b"line\n" * 100)
        for lines, blocks in ((1, 1), (2, 2), (3, 2), (20, 11), (499, 50), (500, 0), (2**62, 0)):
            checks: list[None] = []
            opened.lines_back(lines, opened.size, lambda checks=checks: checks.append(None))  # type: ignore[misc]
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
