"""
A running process as Twisted sees it: its pipes, read by the worker, and its exit, reported by the shim.

The shim keeps the process a zombie until it is released. As long as the zombie holds its pid, the process group can be
signalled, and no other process can have that pid.
"""

from __future__ import annotations

import os
import signal as signals
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any, Protocol

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.internet.interfaces import IProcessTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from txworker.base.reactor import WatchingReactor
from txworker.jobs import Usage
from txworker.linux.memfd import memory_file
from txworker.linux.procfs import ProcessTable
from txworker.process.job_stdin import JobStdin
from txworker.process.pipes.intermediate import IntermediatePipes
from txworker.process.pipes.pipe import Pipe
from txworker.shim.messages import Message

ABANDON_SECONDS = 1.0
"""How long abandon() waits for the end of the pipes, which leftovers may hold open."""


class HoldingShim(Protocol):
    """What a transport needs of the shim that holds its process (shim_connection.py)."""

    def release(self, job_id: str, keep: bool) -> None:
        """Reap the process; keep: its leftovers may go on printing."""

    def enforce(self, job_id: str, reason: str, kill_at: float) -> None:
        """As ChildTransport.enforce()."""

    def resize(self, job_id: str, rows: int, columns: int) -> None:
        """Give the job's terminal another size."""

    def feed(self, job_id: str, file: int | None, end: bool) -> None:
        """As ShimConnection.feed(). The descriptor stays the caller's, and may be closed at once."""


@implementer(IProcessTransport)
class ChildTransport:
    """
    One process of the shim. protocol: a ProcessProtocol that also has `output` (ports.OutputWriter), to which the pipes
    write. It gets connectionMade once the process runs, childConnectionLost, processExited (the process exited; its
    group may still be signalled) and, when all pipes are closed too, processEnded.

    stdin: of a job that was started with feed; None: of another.
    started fires with this object once the process runs, or fails with the reason why there is none; pid is 0 until
    then.
    """

    started: Deferred[ChildTransport]

    def __init__(
        self,
        reactor: WatchingReactor,
        job_id: str,
        protocol: Any,
        shim: HoldingShim,
        intermediate: IntermediatePipes | None = None,
    ) -> None:
        self.pid = 0
        self.usage = Usage()
        self.core_dumped = self.cgroup_removed = False
        self.stdin: JobStdin | None = None
        self.started_at = self.exited_at = 0.0
        self._reactor = reactor
        self._job_id = job_id
        self._protocol = protocol
        self._shim = shim
        self._intermediate = intermediate
        self._status: Failure | None = None
        self._ended = self._released = False
        self._abandoned: Deferred[None] | None = None
        self._pipes: dict[int, Pipe] = {}

    def hold_stdin(self, record: Mapping[str, Any] | None) -> None:
        """What the shim reports of the stdin of a job that was started with feed; None: it was not."""
        if record is not None:
            self.stdin = JobStdin(self._feed, record)

    def begin(self, pid: int, pipes: Mapping[int, int]) -> ChildTransport:
        """
        The process runs: watch its pipes, which this object closes from now on.

        Raises:
            OSError: they cannot be watched; the pipes and the process stay the caller's.
        """
        try:
            for child_fd, fd in pipes.items():
                self._pipes[child_fd] = Pipe(
                    self._reactor,
                    fd,
                    self._job_id,
                    child_fd,
                    self._protocol.output,
                    self._pipe_ended,
                    self._intermediate,
                )
        except BaseException:
            for pipe in self._pipes.values():
                pipe.detach()
            raise
        self.pid = pid
        self._protocol.makeConnection(self)
        return self

    def exited(self, how: Message) -> None:
        """The process exited; `how` is the shim's report. A second report is ignored."""
        if self._status is not None:
            return
        self.usage = Usage(how["user_cpu"], how["system_cpu"], how["max_rss_bytes"])
        self.core_dumped = how["core_dumped"]
        self.cgroup_removed = how.get("cgroup_removed", False)  # an older shim does not remove it
        self.exited_at = how["at"]
        self._status = _reason(how["exit_code"], how["signal"])
        self._protocol.processExited(self._status)
        self._end_if_closed()

    def fed(self, stdin: Message) -> None:
        """The shim's report on what was fed."""
        if self.stdin is not None:
            self.stdin.fed(stdin)

    def release(self, keep: bool) -> None:
        """The end is written down: the pid may become another process's. keep: leftovers may go on printing."""
        if not self._released:
            self._released = True
            self._close_stdin()
            self._shim.release(self._job_id, keep)
        if self._ended:
            self._protocol = None  # which refers to this object: so both are freed at once

    def exit_untold(self) -> bool:
        """Whether the process has exited, as the kernel says, and the shim has not told so yet."""
        released = self._status is not None or self._released or not self.pid
        return not released and ProcessTable().awaits_parent(self.pid)

    def enforce(self, reason: str, kill_at: float) -> None:
        """What the shim is to enforce if this worker dies: KILL at that time of the monotonic clock."""
        self._shim.enforce(self._job_id, reason, kill_at)

    def orphaned(self) -> None:
        """The shim has ended, so init reaps the process. Its pid may become another's, and is no longer signalled."""
        self._released = True
        self._close_stdin()

    def abandon(self) -> Deferred[None]:
        """
        The shim has ended, and the process with it: an exit that is not reported yet cannot be known. Fires when the
        pipes are read to their end, or after ABANDON_SECONDS.
        """
        self.orphaned()
        self._abandoned = Deferred()
        if self._pipes:
            self._reactor.callLater(ABANDON_SECONDS, self.loseConnection)
        else:
            self._abandoned.callback(None)
        return self._abandoned

    def leave(self) -> Deferred[None]:
        """Stop reading the pipes; fires when no thread reads them either."""
        left = [pipe.leave() for pipe in self._pipes.values()]
        self._pipes = {}
        self._ended = True
        return gatherResults(left).addCallback(lambda _: None)

    def signalGroup(self, number: int) -> None:
        """
        Signal every process of the process group, its leader included.

        Raises:
            ProcessExitedAlready: the process was released or orphaned; its pid may be another process's.
            PermissionError: the worker must not signal any of them.
        """
        if self._released or not self.pid:
            raise ProcessExitedAlready()
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError as error:
            raise ProcessExitedAlready() from error

    def resize(self, rows: int, columns: int) -> None:
        """
        Give the terminal that size; its foreground process group gets SIGWINCH. Only with a terminal.

        Raises:
            ProcessExitedAlready: the process has exited.
        """
        if self._status is not None or self._released or not self.pid:
            raise ProcessExitedAlready()
        self._shim.resize(self._job_id, rows, columns)

    def signalProcess(self, signalID: str | int) -> None:
        """Signal the process alone, by number or by name ("TERM")."""
        if self._status is not None or self._released or not self.pid:
            raise ProcessExitedAlready()
        os.kill(self.pid, signalID if isinstance(signalID, int) else signals.Signals[f"SIG{signalID}"])

    def loseConnection(self) -> None:
        """Close our end of every pipe, even when another process holds the other end."""
        for child_fd in list(self._pipes):
            self.closeChildFD(child_fd)

    def closeChildFD(self, descriptor: int) -> None:
        """Close our end of one pipe."""
        if descriptor in self._pipes:
            self._pipes[descriptor].close()

    def closeStdin(self) -> None:
        """Close the stdin of a job that was started with feed, when what was written to it is in the pipe."""
        if self.stdin is not None:
            self.stdin.feed(b"", end=True)

    def closeStdout(self) -> None:
        """Close our end of the child's stdout."""
        self.closeChildFD(1)

    def closeStderr(self) -> None:
        """Close our end of the child's stderr."""
        self.closeChildFD(2)

    def writeToChild(self, childFD: int, data: bytes) -> None:
        """Not possible: use `stdin`, which tells what the job has taken."""
        raise NotImplementedError("a job's stdin is fed by JobStdin")

    def write(self, data: bytes) -> None:
        """As writeToChild()."""
        self.writeToChild(0, data)

    def writeSequence(self, seq: list[bytes]) -> None:
        """As writeToChild()."""
        self.writeToChild(0, b"".join(seq))

    def getPeer(self) -> None:
        """A pipe has no address."""

    def getHost(self) -> None:
        """A pipe has no address."""

    def _feed(self, data: bytes, end: bool) -> None:
        with memory_file(data, "stdin") if data else nullcontext() as file:
            self._shim.feed(self._job_id, file, end)

    def _close_stdin(self) -> None:
        if self.stdin is not None:
            self.stdin.close()

    def _pipe_ended(self, child_fd: int) -> None:
        del self._pipes[child_fd]
        self._protocol.childConnectionLost(child_fd)
        if self._abandoned is not None and not self._pipes:
            self._abandoned.callback(None)
        self._end_if_closed()

    def _end_if_closed(self) -> None:
        if self._status is None or self._pipes or self._ended:
            return
        self._ended = True
        self._protocol.processEnded(self._status)


_DONE = Failure(ProcessDone(None))
"""Most jobs end like this, and making a Failure takes a while."""


def _reason(exit_code: int | None, signal: int | None) -> Failure:
    if exit_code == 0:
        return _DONE
    return Failure(ProcessTerminated(exit_code, signal))
