"""A process of the shim as its protocol sees it. Real pipes, no process, no shim."""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.support.readers import FakeReaders
from txworker.jobs import Usage
from txworker.process.transport import ABANDON_SECONDS, ChildTransport

PID = 2**22 + 1
"""No process has this pid (PID_MAX_LIMIT)."""


def how(exit_code: int | None = 0, signal: int | None = None, core_dumped: bool = False) -> dict[str, Any]:
    return {
        "exit_code": exit_code,
        "signal": signal,
        "core_dumped": core_dumped,
        "at": 1234.5,
        "user_cpu": 0.5,
        "system_cpu": 0.25,
        "max_rss_bytes": 4096,
    }


class FakeShim:
    """Records its calls."""

    def __init__(self) -> None:
        self.released: list[tuple[str, bool]] = []
        self.enforced: list[tuple[str, str, float]] = []
        self.fed: list[tuple[str, bytes, bool]] = []

    def release(self, job_id: str, keep: bool) -> None:
        self.released.append((job_id, keep))

    def enforce(self, job_id: str, reason: str, kill_at: float) -> None:
        self.enforced.append((job_id, reason, kill_at))

    def resize(self, job_id: str, rows: int, columns: int) -> None:
        raise AssertionError("these processes have no terminal")

    def feed(self, job_id: str, file: int | None, end: bool) -> None:
        self.fed.append((job_id, b"" if file is None else os.pread(file, 100, 0), end))


class Recording(ProcessProtocol):
    """Records the calls of its transport, and is its own output, which throws away what it reads."""

    def __init__(self) -> None:
        self.output = self
        self.heard: list[str] = []
        self.reasons: list[BaseException | None] = []
        self.connected: Any = None

    def connectionMade(self) -> None:
        self.heard.append("made")

    def ready(self, child_fd: int) -> bool:
        return True

    def copy_pipe(self, child_fd: int, pipe: int, max_bytes: int) -> int:
        return len(os.read(pipe, max_bytes))

    def pipe_copied(self, child_fd: int) -> None:
        self.heard.append(f"data {child_fd}")

    def childConnectionLost(self, childFD: int) -> None:
        self.heard.append(f"lost {childFD}")

    def processExited(self, reason: Failure) -> None:
        self.heard.append("exited")
        self.reasons.append(reason.value)

    def processEnded(self, reason: Failure) -> None:
        self.heard.append("ended")


class ChildTransportTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.readers = FakeReaders()
        self.protocol = Recording()
        self.shim = FakeShim()
        readers: Any = self.readers
        self.transport = ChildTransport(readers, "id", self.protocol, self.shim)
        self.writing: dict[int, int] = {}

    def begin(self, *child_fds: int) -> None:
        pipes = {}
        for child_fd in child_fds:
            pipes[child_fd], self.writing[child_fd] = os.pipe()
            os.set_blocking(pipes[child_fd], False)
        self.transport.begin(PID, pipes)

    def close(self, child_fd: int) -> None:
        """Close the process's end, and let the readers notice."""
        os.close(self.writing.pop(child_fd))
        for reader in list(self.readers.readers):
            reader.doRead()

    def test_ends(self) -> None:
        """processExited follows the shim's report, processEnded the end of the pipes."""
        self.begin(1, 2)
        self.transport.exited(how())
        self.close(1)
        self.close(2)
        self.assertEqual(["made", "exited", "lost 1", "lost 2", "ended"], self.protocol.heard)
        self.assertIsInstance(self.protocol.reasons[0], ProcessDone)
        self.assertEqual([], self.readers.readers)

    def test_closes_before_exit(self) -> None:
        """Pipes that end before the exit do not end the process."""
        self.begin(1)
        self.close(1)
        self.assertEqual(["made", "lost 1"], self.protocol.heard)
        self.transport.exited(how(exit_code=3))
        self.assertEqual(["exited", "ended"], self.protocol.heard[2:])

    def test_exit_is_told_once(self) -> None:
        """A second report of the exit is ignored."""
        self.begin()
        self.transport.exited(how())
        self.transport.exited(how(exit_code=1))
        self.assertEqual(["made", "exited", "ended"], self.protocol.heard)

    def test_how_it_exited(self) -> None:
        """Exit code, signal, usage, time and core dump are those of the report."""
        self.begin()
        self.transport.exited(how(None, 11, core_dumped=True))
        reason: Any = self.protocol.reasons[0]
        self.assertIsInstance(reason, ProcessTerminated)
        self.assertEqual((None, 11), (reason.exitCode, reason.signal))
        self.assertEqual(
            (Usage(0.5, 0.25, 4096), True, 1234.5),
            (self.transport.usage, self.transport.core_dumped, self.transport.exited_at),
        )

    def test_group_until_released(self) -> None:
        """The process group is signalled until the release, and never after it."""
        signals: list[tuple[int, int]] = []
        self.patch(os, "killpg", lambda *words: signals.append(words))
        self.assertRaises(ProcessExitedAlready, self.transport.signalGroup, 15)
        self.begin()
        self.transport.signalGroup(15)
        self.transport.exited(how())
        self.transport.signalGroup(9)
        self.transport.release(keep=False)
        self.assertRaises(ProcessExitedAlready, self.transport.signalGroup, 9)
        self.assertEqual([(PID, 15), (PID, 9)], signals)

    def test_orphaned(self) -> None:
        """Once its shim has ended nothing is signalled: init reaps the process, and its pid becomes another's."""
        signals: list[tuple[int, int]] = []
        for name in ("kill", "killpg"):
            self.patch(os, name, lambda *words: signals.append(words))
        self.begin()
        self.transport.orphaned()
        self.assertRaises(ProcessExitedAlready, self.transport.signalGroup, 15)
        self.assertRaises(ProcessExitedAlready, self.transport.signalProcess, 15)
        self.assertEqual([], signals)
        self.transport.release(keep=False)
        self.assertEqual([], self.shim.released)

    def test_released_once(self) -> None:
        """A second release is ignored."""
        self.begin()
        self.transport.release(keep=True)
        self.transport.release(keep=False)
        self.assertEqual([("id", True)], self.shim.released)

    def test_group_that_is_gone(self) -> None:
        """Signalling an empty process group raises ProcessExitedAlready."""
        self.begin()
        self.assertRaises(ProcessExitedAlready, self.transport.signalGroup, 15)

    def test_lose_connection(self) -> None:
        """Every pipe is closed, even when another process holds the other end."""
        self.begin(1, 2)
        self.transport.exited(how())
        self.transport.loseConnection()
        self.assertEqual("ended", self.protocol.heard[-1])
        for writing in self.writing.values():
            self.assertRaises(BrokenPipeError, os.write, writing, b"x")
            os.close(writing)

    def test_abandon(self) -> None:
        """When the shim is gone, the end of the pipes is awaited for a bounded time; no exit is reported."""
        self.begin(1)
        done = self.transport.abandon()
        self.assertNoResult(done)
        self.readers.clock.advance(ABANDON_SECONDS)
        self.successResultOf(done)
        self.assertEqual(["made", "lost 1"], self.protocol.heard)
        self.assertRaises(ProcessExitedAlready, self.transport.signalGroup, 9)
        os.close(self.writing.pop(1))

    def test_abandon_without_pipes(self) -> None:
        """Without pipes abandon() fires at once."""
        self.begin()
        self.successResultOf(self.transport.abandon())

    def test_leave(self) -> None:
        """After leave() the content of the pipes stays in them, and the protocol is not called."""
        reading, writing = os.pipe()
        kept = os.dup(reading)
        os.set_blocking(reading, False)
        self.transport.begin(PID, {1: reading})
        os.write(writing, b"for the next")
        self.successResultOf(self.transport.leave())
        self.transport.exited(how())
        self.assertEqual(["made", "exited"], self.protocol.heard)
        self.assertEqual(([], b"for the next"), (self.readers.readers, os.read(kept, 100)))
        for fd in (kept, writing):
            os.close(fd)

    def test_cannot_be_watched(self) -> None:
        """When a pipe cannot be watched, none is, and the pipes stay the caller's."""
        pipes = {1: os.pipe(), 2: os.pipe()}
        for fds in pipes.values():
            for fd in fds:
                self.addCleanup(os.close, fd)
        for room in range(2):
            self.readers.room = room
            readers: Any = self.readers
            transport = ChildTransport(readers, "id", self.protocol, self.shim)
            with self.assertRaises(OSError):
                transport.begin(PID, {child_fd: fds[0] for child_fd, fds in pipes.items()})
            self.assertEqual([], self.readers.readers)
            for fds in pipes.values():
                os.fstat(fds[0])
        self.assertEqual([], self.protocol.heard)
