"""
A running child as Twisted sees one: its pipes and its exit, in the reactor. No decisions.

The child stays unreaped until its pipes are closed: as long as the zombie holds its number, the process
group can be signalled and nobody else can have been given that number.
"""

from __future__ import annotations

import os
import signal as signals
from collections.abc import Callable, Mapping
from typing import Protocol

from twisted.internet import process
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.internet.interfaces import IProcessTransport
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from txworker.jobs import Usage
from txworker.logs import Logger
from txworker.process.pipe import Pipe
from txworker.process.readable import Descriptor, ReactorWithReaders


class ExitWatch(Protocol):
    """Notices that a child has exited, without reaping it."""

    def close(self) -> None:
        """Stop watching; again is harmless."""


class SigchldWatch:
    """For platforms without pidfds: asks after its child whenever Twisted sees a SIGCHLD."""

    def __init__(self, pid: int, look: Callable[[], None]) -> None:
        self._pid = pid
        self.reapProcess = look  # the name that Twisted calls
        process.reapProcessHandlers[pid] = self  # type: ignore[assignment]  # all that is called of it is reapProcess

    def close(self) -> None:
        """Stop watching."""
        process.reapProcessHandlers.pop(self._pid, None)


def watch_exit(
    reactor: ReactorWithReaders, pid: int, look: Callable[[], None], kept: Callable[[int], int]
) -> ExitWatch:
    """Calls look() when the child may have exited: by its pidfd, or plain Twisted's way where there is none."""
    if hasattr(os, "pidfd_open"):
        fd = kept(os.pidfd_open(pid))
        try:
            return Descriptor(reactor, fd, look)
        except BaseException:
            os.close(fd)
            raise
    return SigchldWatch(pid, look)


@implementer(IProcessTransport)
class ChildTransport:
    """
    One child. Its protocol hears connectionMade once it runs, childDataReceived, childConnectionLost, processExited (it
    exited; its group may still be signalled) and, once every pipe is closed too, processEnded. kept(fd) may move a
    descriptor that is held for long.

    started fires with this object once the child runs, or fails with why there is none; pid is 0 until then.
    """

    _log = Logger()
    started: Deferred[ChildTransport]

    def __init__(
        self,
        reactor: ReactorWithReaders,
        protocol: ProcessProtocol,
        kept: Callable[[int], int] = lambda fd: fd,
    ) -> None:
        self.pid = 0
        self.usage = Usage()
        self._reactor = reactor
        self._protocol = protocol
        self._kept = kept
        self._status: Failure | None = None
        self._reaped = False
        self._pipes: dict[int, Pipe] = {}

    def begin(self, pid: int, pipes: Mapping[int, int]) -> ChildTransport:
        """
        It runs: watch it from now on, and its pipes, which are this object's then.

        Raises:
            OSError: it cannot be watched; the caller still has the child and its pipes.
        """
        self._watch = watch_exit(self._reactor, pid, self._look, self._kept)
        try:
            for child_fd, fd in pipes.items():
                self._pipes[child_fd] = Pipe(self._reactor, fd, self._protocol, child_fd, self._pipe_ended)
        except BaseException:
            self._watch.close()
            for pipe in self._pipes.values():
                pipe.give_back()
            raise
        self.pid = pid
        self._protocol.makeConnection(self)
        if isinstance(self._watch, SigchldWatch):
            self._look()  # it may have exited before anybody looked; a pidfd tells even then
        return self

    def signalGroup(self, number: int) -> None:
        """
        Signal every process of the child's process group, the child included.

        Raises:
            ProcessExitedAlready: all is over; the number may belong to somebody else by now.
        """
        if self._reaped or not self.pid:
            raise ProcessExitedAlready()
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError as error:
            raise ProcessExitedAlready() from error
        except PermissionError as error:
            self._log.warn("Process group {pid} may not be signalled: {error}", pid=self.pid, error=error)

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
        self._end_if_over()

    def _look(self) -> None:
        if self._status is not None:
            return
        info = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if info is None:
            return
        self._watch.close()
        if info.si_code == os.CLD_EXITED:
            self._status = _ended(info.si_status, None)
        else:
            self._status = _ended(None, info.si_status)
        self._protocol.processExited(self._status)
        self._end_if_over()

    def _end_if_over(self) -> None:
        if self._status is None or self._pipes or self._reaped:
            return
        self._reaped = True
        _, _, resources = os.wait4(self.pid, 0)
        self.usage = Usage(resources.ru_utime, resources.ru_stime, resources.ru_maxrss * 1024)
        self._protocol.processEnded(self._status)


_DONE = Failure(ProcessDone(None))
"""Most jobs end like this, and a Failure is dear to make."""


def _ended(exit_code: int | None, signal: int | None) -> Failure:
    if exit_code == 0:
        return _DONE
    return Failure(ProcessTerminated(exit_code, signal))
