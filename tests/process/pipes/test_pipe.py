"""One pipe, read in the reactor and in threads by turns. Real pipes; the test runs the reactor's threads."""

from __future__ import annotations

import errno
import fcntl
import os
from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from txworker.process.pipes import intermediate, pipe
from txworker.process.pipes.intermediate import IntermediatePipe, IntermediatePipes
from txworker.process.pipes.pipe import READ_BYTES, RETRY_SECONDS, Pipe

BLOCK_BYTES = 256 * 1024


class FakeReactor:
    """turn() runs one thread's work, and then what it called in the reactor."""

    def __init__(self) -> None:
        self.readers: list[Any] = []
        self.threads: deque[Callable[[], None]] = deque()
        self.calls: deque[Callable[[], None]] = deque()
        self.idle = False  # what threads ask for is done at once
        self.room = True  # for readers
        self.short = False  # no thread can be made
        self.clock = Clock()
        self.callLater = self.clock.callLater

    def addReader(self, reader: Any) -> None:
        if not self.room:
            raise OSError(errno.ENOMEM, "no memory")
        self.readers.append(reader)

    def removeReader(self, reader: Any) -> None:
        if reader in self.readers:
            self.readers.remove(reader)

    def callInThread(self, callable: Callable[..., Any], *args: Any) -> None:
        if self.short:
            raise RuntimeError("can't start new thread")
        self.threads.append(lambda: callable(*args))

    def callFromThread(self, callable: Callable[..., Any], *args: Any) -> None:
        self.calls.append(lambda: callable(*args))
        while self.idle and self.calls:
            self.calls.popleft()()

    def readable(self) -> None:
        for reader in list(self.readers):
            reader.doRead()

    def turn(self) -> None:
        self.threads.popleft()()
        while self.calls:
            self.calls.popleft()()


class FakeOutput:
    """Records what it gets and how much of it was notified; calls mistake() first."""

    def __init__(self, name: str = "", log: list[str] | None = None) -> None:
        self.name = name
        self.log = [] if log is None else log
        self.data = b""
        self.told = 0
        self.mistake: Callable[[], object] = lambda: None
        self.asked = 0
        self.room = True

    def ready(self, child_fd: int) -> bool:
        self.mistake()
        self.asked += 1
        return self.room

    def write(self, child_fd: int, data: bytes) -> None:
        raise NotImplementedError

    def copy_pipe(self, child_fd: int, pipe: int, max_bytes: int) -> int:
        self.mistake()
        data = os.read(pipe, min(max_bytes, BLOCK_BYTES))
        self.log.append(self.name)
        self.data += data
        return len(data)

    def pipe_copied(self, child_fd: int) -> None:
        self.told = len(self.data)


def fail_once(output: FakeOutput) -> None:
    """Raise at the next call, and only then."""

    def fail() -> None:
        output.mistake = lambda: None
        raise ValueError("a mistake")

    output.mistake = fail


class PipeTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = FakeReactor()
        self.output = FakeOutput()
        self.ended: list[int] = []
        self.writing: set[int] = set()
        self.intermediate: IntermediatePipes | None = IntermediatePipes(2)
        self.addCleanup(self.intermediate.close)
        self.patch(pipe, "IDLE_MILLISECONDS", 0)

    def a_pipe(self, output: FakeOutput | None = None) -> tuple[Pipe, int]:
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 1024 * 1024)
        self.writing.add(writing)
        made = Pipe(self.reactor, reading, "id", 1, output or self.output, self.ended.append, self.intermediate)
        return made, writing

    def tearDown(self) -> None:
        for fd in list(self.writing):
            self.hang_up(fd)

    def hang_up(self, fd: int) -> None:
        self.writing.remove(fd)
        os.close(fd)

    def in_thread(self) -> tuple[Pipe, int]:
        """A pipe that a thread will read next."""
        made, writing = self.a_pipe()
        os.write(writing, bytes(READ_BYTES))
        self.reactor.readable()
        self.assertEqual([], self.reactor.readers)
        return made, writing

    def small_blocks(self) -> None:
        """Make the pipes small, so that each copy is one block."""
        self.patch(intermediate, "PIPE_BYTES", BLOCK_BYTES)
        self.patch(pipe, "enlarge", lambda fd: None)

    def test_no_thread(self) -> None:
        """Where the machine has no thread left, the reactor goes on reading, and the pipe can be closed."""
        made, writing = self.a_pipe()
        self.reactor.short = True
        for _ in range(3):
            os.write(writing, bytes(READ_BYTES))
            self.reactor.readable()
        self.assertEqual(3 * READ_BYTES, len(self.output.data))
        self.reactor.short = False
        os.write(writing, bytes(2 * READ_BYTES))
        self.reactor.readable()
        self.reactor.short = True
        self.patch(pipe, "TURN_SECONDS", -1)
        self.reactor.turn()
        self.hang_up(writing)
        for _ in range(3):
            self.reactor.readable()
        self.assertEqual((5 * READ_BYTES, [1]), (len(self.output.data), self.ended))
        made.close()

    def test_little(self) -> None:
        """The reactor reads a line itself, without a thread."""
        _, writing = self.a_pipe()
        os.write(writing, b"a line\n")
        self.reactor.readable()
        self.assertEqual((b"a line\n", 0), (self.output.data, len(self.reactor.threads)))

    def test_asked_once(self) -> None:
        """ready() is called before the first bytes only, and never for a job that prints nothing."""
        for prints in (0, 3):
            self.output = FakeOutput()
            _, writing = self.a_pipe()
            for _ in range(prints):
                os.write(writing, b"a line\n")
                self.reactor.readable()
            self.hang_up(writing)
            self.reactor.readable()
            self.assertEqual((bool(prints), prints * b"a line\n"), (bool(self.output.asked), self.output.data))
            self.assertLessEqual(self.output.asked, 1)
        self.assertEqual([1, 1], self.ended)

    def test_no_room(self) -> None:
        """While the output is not ready nothing is read, and ready() is seldom called; other jobs go on."""
        self.output.room = False
        _, writing = self.a_pipe()
        os.write(writing, b"first, ")
        other = FakeOutput()
        _, others = self.a_pipe(other)
        os.write(others, b"at once")
        for _ in range(3):
            self.reactor.readable()
        self.assertEqual((b"", 1, b"at once"), (self.output.data, self.output.asked, other.data))
        self.reactor.clock.advance(RETRY_SECONDS)
        self.reactor.readable()
        os.write(writing, b"last")
        self.hang_up(writing)
        self.output.room = True
        self.reactor.clock.advance(RETRY_SECONDS)
        for _ in range(2):
            self.reactor.readable()
        self.assertEqual((b"first, last", 3, [1]), (self.output.data, self.output.asked, self.ended))
        self.assertEqual([], self.reactor.clock.getDelayedCalls())

    def test_no_room_to_the_end(self) -> None:
        """When a pipe is closed while its output is not ready, what it holds is handed over; no timer is left."""
        self.output.room = False
        made, writing = self.a_pipe()
        os.write(writing, bytes(3 * READ_BYTES))
        self.reactor.readable()
        made.close()
        self.assertEqual((3 * READ_BYTES, [1]), (len(self.output.data), self.ended))
        self.assertEqual(([], []), (self.reactor.clock.getDelayedCalls(), self.reactor.readers))

    def test_much(self) -> None:
        """A thread reads large output; all of it is notified, and the reactor watches again when no more comes."""
        _, writing = self.in_thread()
        os.write(writing, bytes(3 * BLOCK_BYTES))
        self.reactor.turn()
        size = READ_BYTES + 3 * BLOCK_BYTES
        self.assertEqual((size, size), (len(self.output.data), self.output.told))
        self.assertEqual((1, 0), (len(self.reactor.readers), len(self.reactor.threads)))

    def test_no_intermediate_pipe(self) -> None:
        """Without an intermediate pipe the job's own pipe is copied."""
        self.intermediate = None
        self.test_much()
        self.hang_up(next(iter(self.writing)))
        self.reactor.readable()
        self.assertEqual([1], self.ended)

    def test_intermediate_pipe_refused(self) -> None:
        """Where the kernel moves nothing to the intermediate pipe, the job's own pipe is copied, without a mistake."""

        def refuse(self: IntermediatePipe, pipe: int) -> int:
            raise OSError(errno.ENOMEM, "no memory")

        self.patch(IntermediatePipe, "fill", refuse)
        self.test_much()

    def test_cannot_be_watched(self) -> None:
        """A pipe that cannot be watched again after a thread has read it is tried again; the job waits."""
        _, writing = self.in_thread()
        self.reactor.room = False
        self.reactor.turn()
        os.write(writing, b"more")
        self.reactor.clock.advance(RETRY_SECONDS)
        self.assertEqual([], self.reactor.readers)
        self.reactor.room = True
        self.reactor.clock.advance(RETRY_SECONDS)
        self.reactor.readable()
        self.assertTrue(self.output.data.endswith(b"more"))
        self.assertEqual([], self.reactor.clock.getDelayedCalls())

    def test_closed_unwatched(self) -> None:
        """The same when the pipe is closed meanwhile: what it holds is read first."""
        made, writing = self.in_thread()
        self.reactor.room = False
        self.reactor.turn()
        os.write(writing, b"more")
        made.close()
        self.assertTrue(self.output.data.endswith(b"more"))
        self.assertEqual(([1], []), (self.ended, self.reactor.clock.getDelayedCalls()))

    def test_left(self) -> None:
        """A pipe that is left is read no longer, and is closed at once, or when the thread that reads it is done."""
        made, writing = self.a_pipe()
        os.write(writing, b"for the next worker")
        self.successResultOf(made.leave())
        self.reactor.readable()
        self.assertEqual((b"", [], []), (self.output.data, self.ended, self.reactor.readers))
        made, writing = self.in_thread()
        left = made.leave()
        self.assertNoResult(left)
        self.reactor.turn()
        self.successResultOf(left)
        self.assertEqual(([], 0), (self.ended, len(self.reactor.threads)))

    def test_turns(self) -> None:
        """Pipes with large output take turns: none has a second turn before all others had their first."""
        self.patch(pipe, "TURN_SECONDS", 0)
        self.small_blocks()
        log: list[str] = []
        for name in "abc":
            _, writing = self.a_pipe(FakeOutput(name, log))
            os.write(writing, bytes(READ_BYTES + 3 * BLOCK_BYTES - 1))
        self.reactor.readable()
        while self.reactor.threads:
            self.reactor.turn()
        self.assertEqual(list("abcabcabc"), log[:9])

    def test_end_in_the_reactor(self) -> None:
        """The end of the pipe is reported once, and our descriptor is closed."""
        _, writing = self.a_pipe()
        fd = self.reactor.readers[0].fileno()
        self.hang_up(writing)
        self.reactor.readable()
        self.assertEqual([1], self.ended)
        self.assertEqual([], self.reactor.readers)
        self.assertRaises(OSError, os.fstat, fd)

    def test_end_in_a_thread(self) -> None:
        """An end that a thread finds is reported once, after everything that came before it."""
        self.patch(pipe, "NOTIFY_SECONDS", 1000)
        self.reactor.idle = True
        _, writing = self.in_thread()
        os.write(writing, bytes(2 * BLOCK_BYTES) + b"last")
        self.hang_up(writing)
        self.reactor.turn()
        self.assertEqual([1], self.ended)
        self.assertTrue(self.output.data.endswith(b"last"))
        self.assertEqual(len(self.output.data), self.output.told)
        self.assertEqual((0, 0), (len(self.reactor.readers), len(self.reactor.threads)))

    def test_closed_while_a_thread_reads(self) -> None:
        """The descriptor stays open while a thread reads it; then it is closed, and the end is reported."""
        self.small_blocks()
        made, writing = self.in_thread()
        os.write(writing, bytes(3 * BLOCK_BYTES))
        self.output.mistake = made.close
        self.reactor.threads.popleft()()
        self.assertEqual([], self.ended)
        self.reactor.calls.pop()()
        self.assertEqual([1], self.ended)
        self.assertEqual(READ_BYTES + BLOCK_BYTES, len(self.output.data))
        self.assertRaises(BrokenPipeError, os.write, writing, b"x")

    def test_mistakes_of_the_sink(self) -> None:
        """An error with some bytes is logged, and the bytes after them are read."""
        made, writing = self.in_thread()
        os.write(writing, b"lost")
        fail_once(self.output)
        self.reactor.turn()
        os.write(writing, b"lost, too")
        fail_once(self.output)
        self.reactor.readable()
        os.write(writing, b"kept")
        self.reactor.readable()
        self.assertEqual(bytes(READ_BYTES) + b"kept", self.output.data)
        self.assertEqual(2, len(self.flushLoggedErrors(ValueError)))
        made.close()
