"""What a job's pipe holds is taken over at once, whole and in order. Real pipes."""

from __future__ import annotations

import os

from twisted.trial.unittest import SynchronousTestCase

from txworker.process.basin import PIPE_BYTES, Basin, a_basin, enlarge


class BasinTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reading, self.writing = os.pipe2(os.O_NONBLOCK)
        enlarge(self.writing)
        self.basin = Basin()
        self.addCleanup(self.basin.close)
        self.addCleanup(os.close, self.reading)

    def hang_up(self) -> None:
        os.close(self.writing)

    def test_taken_over(self) -> None:
        """The job can fill its pipe again while nothing of what it wrote before has been read."""
        first, second = os.urandom(PIPE_BYTES), os.urandom(PIPE_BYTES)
        self.assertEqual(PIPE_BYTES, os.write(self.writing, first))
        self.assertEqual(PIPE_BYTES, self.basin.fill(self.reading))
        self.assertEqual(PIPE_BYTES, os.write(self.writing, second))
        self.assertEqual(first, os.read(self.basin.fd, 2 * PIPE_BYTES))
        self.assertEqual(PIPE_BYTES, self.basin.fill(self.reading))
        self.assertEqual(second, os.read(self.basin.fd, 2 * PIPE_BYTES))
        self.hang_up()

    def test_small_pieces(self) -> None:
        """Many small writes stay as they were written, one after another."""
        pieces = [f"line {number}\n".encode() for number in range(3000)]
        for piece in pieces:
            os.write(self.writing, piece)
        self.hang_up()
        taken = b""
        while size := self.basin.fill(self.reading):
            taken += os.read(self.basin.fd, size)
        self.assertEqual(b"".join(pieces), taken)

    def test_empty(self) -> None:
        """An empty pipe says so, one that has ended gives nothing."""
        self.assertRaises(BlockingIOError, self.basin.fill, self.reading)
        self.hang_up()
        self.assertEqual(0, self.basin.fill(self.reading))

    def test_for_a_while(self) -> None:
        """It leaves no descriptor open, whatever happens meanwhile."""
        self.hang_up()
        before = os.listdir("/proc/self/fd")
        with self.assertRaises(ValueError), a_basin() as basin:
            self.assertIsNotNone(basin)
            raise ValueError
        self.assertEqual(before, os.listdir("/proc/self/fd"))
