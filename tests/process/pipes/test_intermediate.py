"""Intermediate pipes: emptied whole and in order, and marked with their owner. Real pipes."""

from __future__ import annotations

import mmap
import os

from twisted.trial.unittest import SynchronousTestCase

from txworker.process.pipes.intermediate import PIPE_BYTES, IntermediatePipe, IntermediatePipes, enlarge
from txworker.shim.messages import SLOT_BYTES, owner_entry


class IntermediatePipeTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reading, self.writing = os.pipe2(os.O_NONBLOCK)
        enlarge(self.writing)
        self.pipe = IntermediatePipe(0)
        self.addCleanup(self.pipe.close)
        self.addCleanup(os.close, self.reading)

    def hang_up(self) -> None:
        os.close(self.writing)

    def test_taken_over(self) -> None:
        """The job can fill its pipe again while nothing that it wrote before has been read."""
        first, second = os.urandom(PIPE_BYTES), os.urandom(PIPE_BYTES)
        self.assertEqual(PIPE_BYTES, os.write(self.writing, first))
        self.assertEqual(PIPE_BYTES, self.pipe.fill(self.reading))
        self.assertEqual(PIPE_BYTES, os.write(self.writing, second))
        self.assertEqual(first, os.read(self.pipe.fd, 2 * PIPE_BYTES))
        self.assertEqual(PIPE_BYTES, self.pipe.fill(self.reading))
        self.assertEqual(second, os.read(self.pipe.fd, 2 * PIPE_BYTES))
        self.hang_up()

    def test_small_pieces(self) -> None:
        """Many small writes stay complete and in order."""
        pieces = [f"line {number}\n".encode() for number in range(3000)]
        for piece in pieces:
            os.write(self.writing, piece)
        self.hang_up()
        taken = b""
        while size := self.pipe.fill(self.reading):
            taken += os.read(self.pipe.fd, size)
        self.assertEqual(b"".join(pieces), taken)

    def test_empty(self) -> None:
        """fill() raises BlockingIOError for an empty pipe, and returns 0 for one that has ended."""
        self.assertRaises(BlockingIOError, self.pipe.fill, self.reading)
        self.hang_up()
        self.assertEqual(0, self.pipe.fill(self.reading))


class IntermediatePipesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.pipes = IntermediatePipes(2)
        self.owners = mmap.mmap(self.pipes.descriptors[0], 2 * SLOT_BYTES)

    def tearDown(self) -> None:
        self.owners.close()
        self.pipes.close()

    def test_owners(self) -> None:
        """The memfd has the owner before the pipe is filled; when all pipes are lent there is none."""
        with self.pipes.lend("a", 1) as first, self.pipes.lend("b", 2) as second:
            assert first is not None
            assert second is not None
            self.assertEqual(owner_entry("a", 1) + owner_entry("b", 2), self.owners[:])
            with self.pipes.lend("c", 1) as third:
                self.assertIsNone(third)
        with self.pipes.lend("c", 1) as again:
            self.assertIs(first if again is first else second, again)

    def test_not_emptied(self) -> None:
        """A pipe that is not empty is never lent again: another job would get its bytes."""
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        self.addCleanup(os.close, writing)
        os.write(writing, b"left")
        with self.pipes.lend("a", 1) as pipe:
            assert pipe is not None
            pipe.fill(reading)
        with self.pipes.lend("b", 1) as other, self.pipes.lend("c", 1) as none:
            self.assertIsNot(pipe, other)
            self.assertIsNone(none)
