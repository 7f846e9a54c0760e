"""
A running child as Twisted sees one: its pipes, read in the reactor, and its exit, told by the shim. No decisions.

The shim holds the child as a zombie until it is released: as long as the zombie holds its number, the process group can
be signalled, and no other process can have been given that number.
"""

from __future__ import annotations

import os
import signal as signals
from collections.abc import Callable, Mapping

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.internet.interfaces import IProcessTransport
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from txworker.base.logs import Logger
from txworker.base.reactor import WatchingReactor
from txworker.jobs import Usage
from txworker.process.pipes.intermediate import IntermediatePipes
from txworker.process.pipes.pipe import Pipe
from txworker.shim.messages import Message

ABANDON_SECONDS = 1.0


@implementer(IProcessTransport)
class ChildTransport:
    """
    One child. Its protocol hears connectionMade once it runs, childDataReceived, childConnectionLost, processExited (it
    exited; its group may still be signalled) and, once every pipe is closed too, processEnded. release(keep) lets the
    shim reap it.

    started fires with this object once the child runs, or fails with why there is none; pid is 0 until then.
    """

    _log = Logger()
    started: Deferred[ChildTransport]

    def __init__(
        self,
        reactor: WatchingReactor,
        protocol: ProcessProtocol,
        release: Callable[[bool], None] = lambda keep: None,
        intermediate: IntermediatePipes | None = None,
    ) -> None:
        self.pid = 0
        self.usage = Usage()
        self.core_dumped = False
        self.started_at = self.exited_at = 0.0
        self._reactor = reactor
        self._protocol = protocol
        self._release = release
        self._intermediate = intermediate
        self._status: Failure | None = None
        self._ended = self._released = False
        self._abandoned: Deferred[None] | None = None
        self._pipes: dict[int, Pipe] = {}

    def begin(self, pid: int, pipes: Mapping[int, int]) -> ChildTransport:
        """
        It runs: watch its pipes from now on, which are this object's then.

        Raises:
            OSError: they cannot be watched; the caller still has them, and the child.
        """
        try:
            for child_fd, fd in pipes.items():
                self._pipes[child_fd] = Pipe(
                    self._reactor, fd, self._protocol, child_fd, self._pipe_ended, self._intermediate
                )
        except BaseException:
            for pipe in self._pipes.values():
                pipe.give_back()
            raise
        self.pid = pid
        self._protocol.makeConnection(self)
        return self

    def exited(self, how: Message) -> None:
        """The shim has seen it exit, like this."""
        if self._status is not None:
            return
        self.usage = Usage(how["user_cpu"], how["system_cpu"], how["max_rss_bytes"])
        self.core_dumped = how["core_dumped"]
        self.exited_at = how["at"]
        self._status = _ended(how["exit_code"], how["signal"])
        self._protocol.processExited(self._status)
        self._end_if_over()

    def release(self, keep: bool) -> None:
        """Its end is written down: the number may be another's from now on. keep: leftovers may go on printing."""
        if not self._released:
            self._released = True
            self._release(keep)

    def abandon(self) -> Deferred[None]:
        """
        The shim has ended, and the child with it: its exit is never told. Fires when what it printed is read, or
        another process has held its pipes for too long.
        """
        self._released = True
        self._abandoned = Deferred()
        if self._pipes:
            self._reactor.callLater(ABANDON_SECONDS, self.loseConnection)
        else:
            self._abandoned.callback(None)
        return self._abandoned

    def leave(self) -> Deferred[None]:
        """Read the pipes no longer; fires when no thread does either."""
        left = [pipe.leave() for pipe in self._pipes.values()]
        self._pipes = {}
        self._ended = True
        return gatherResults(left).addCallback(lambda _: None)

    def signalGroup(self, number: int) -> None:
        """
        Signal every process of the child's process group, the child included.

        Raises:
            ProcessExitedAlready: all is over; the number may belong to somebody else by now.
            PermissionError: none of them is ours to signal.
        """
        if self._released or not self.pid:
            raise ProcessExitedAlready()
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError as error:
            raise ProcessExitedAlready() from error

    def signalProcess(self, signalID: str | int) -> None:
        """Signal the child alone, by number or by name ("TERM")."""
        if self._status is not None or not self.pid:
            raise ProcessExitedAlready()
        os.kill(self.pid, signalID if isinstance(signalID, int) else signals.Signals[f"SIG{signalID}"])

    def loseConnection(self) -> None:
        """Close every pipe, whoever holds the other end."""
        for child_fd in list(self._pipes):
            self.closeChildFD(child_fd)

    def closeChildFD(self, descriptor: int) -> None:
        """Close our end of one pipe."""
        if descriptor in self._pipes:
            self._pipes[descriptor].close()

    def closeStdin(self) -> None:
        """Nothing to do: stdin is a file from the start."""

    def closeStdout(self) -> None:
        """Close our end of the child's stdout."""
        self.closeChildFD(1)

    def closeStderr(self) -> None:
        """Close our end of the child's stderr."""
        self.closeChildFD(2)

    def writeToChild(self, childFD: int, data: bytes) -> None:
        """Not possible: stdin is a file from the start."""
        raise NotImplementedError("a job's stdin is given when it is started")

    def write(self, data: bytes) -> None:
        """Not possible: stdin is a file from the start."""
        self.writeToChild(0, data)

    def writeSequence(self, seq: list[bytes]) -> None:
        """Not possible: stdin is a file from the start."""
        self.writeToChild(0, b"".join(seq))

    def getPeer(self) -> None:
        """A pipe has no address."""

    def getHost(self) -> None:
        """A pipe has no address."""

    def _pipe_ended(self, child_fd: int) -> None:
        del self._pipes[child_fd]
        self._protocol.childConnectionLost(child_fd)
        if self._abandoned is not None and not self._pipes:
            self._abandoned.callback(None)
        self._end_if_over()

    def _end_if_over(self) -> None:
        if self._status is None or self._pipes or self._ended:
            return
        self._ended = True
        self._protocol.processEnded(self._status)


_DONE = Failure(ProcessDone(None))
"""Most jobs end like this, and a Failure is dear to make."""


def _ended(exit_code: int | None, signal: int | None) -> Failure:
    if exit_code == 0:
        return _DONE
    return Failure(ProcessTerminated(exit_code, signal))
