"""
A child's output pipe: read in the reactor while there is little, in a thread when it pours.

A job that writes at full speed must cost the others nothing, and a disk that is slower than the job must hold up that
job alone: so the thread both reads and writes, for a bounded time, and then others have their turn. Whoever writes
also reads, for the kernel can then copy straight from the pipe to the file.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.interfaces import IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from txworker.process.basin import PIPE_BYTES, Basin, a_basin, enlarge

POURING_BYTES = 64 * 1024
"""
Of one read: a whole pipe of the usual size. One that finds it full: the job pours. A larger buffer is given back to
the system after each read, and made anew for the next.
"""

PATIENCE_MILLISECONDS = 2
"""How long a thread waits for more before the reactor watches again, which is dearer."""

TELL_SECONDS = 0.001
"""How often those who wait for a pouring job's output are told; the last of it, and what comes alone, at once."""

TURN_SECONDS = 0.05
"""How long a thread serves one pouring job before the next one's turn."""


class ReactorWithReaders(Protocol):
    """What is asked of the reactor."""

    def addReader(self, reader: Any) -> None: ...

    def removeReader(self, reader: Any) -> None: ...

    def callInThread(self, callable: Callable[..., Any], *args: Any) -> None: ...

    def callFromThread(self, callable: Callable[..., Any], *args: Any) -> None: ...


@implementer(IReadDescriptor)
class Descriptor:
    """
    Calls back whenever a descriptor can be read; closes it once.

    Raises:
        OSError: it cannot be watched; it is the caller's.
    """

    __slots__ = ("_fd", "_reactor", "_readable")

    def __init__(self, reactor: ReactorWithReaders, fd: int, readable: Callable[[], None]) -> None:
        self._reactor = reactor
        self._fd = fd
        self._readable = readable
        try:
            reactor.addReader(self)
        except BaseException:
            self._fd = -1
            raise

    def fileno(self) -> int:
        """Twisted: what is watched."""
        return self._fd

    def doRead(self) -> None:
        """Twisted: it can be read."""
        self._readable()

    def connectionLost(self, reason: Failure) -> None:
        """Twisted: the other end has hung up."""
        self._readable()  # a hang-up with nothing left to read: this is how the end of a pipe is told

    def logPrefix(self) -> str:
        """Twisted: for its own log."""
        return "txworker.process"

    def close(self) -> None:
        """Again is harmless."""
        if self._fd >= 0:
            os.close(self.give_back())

    def give_back(self) -> int:
        """Watch it no longer; the descriptor, which is open."""
        fd = self._fd
        self._reactor.removeReader(self)
        self._fd = -1
        return fd


class Pours(Protocol):
    """What is asked of the protocol: JobProtocol."""

    def childDataReceived(self, childFD: int, data: bytes) -> None: ...

    def childDataPours(self, childFD: int, fd: int, most: int) -> int: ...

    def childDataPoured(self, childFD: int) -> None: ...


class Pipe:
    """One pipe, from the child's start to its end; ended(child_fd) is told once. Reactor thread."""

    __slots__ = ("_child_fd", "_closing", "_descriptor", "_ended", "_fd", "_pouring", "_protocol", "_reactor", "_told")
    _log = Logger()

    def __init__(
        self, reactor: ReactorWithReaders, fd: int, protocol: Any, child_fd: int, ended: Callable[[int], None]
    ) -> None:
        self._reactor = reactor
        self._fd = fd
        self._protocol: Pours = protocol
        self._child_fd = child_fd
        self._ended = ended
        self._pouring = False
        self._closing = False
        self._told = False
        self._descriptor = Descriptor(reactor, fd, self._read)

    def close(self) -> None:
        """Close our end, whoever holds the other; while a thread reads, when it is through."""
        if self._pouring:
            self._closing = True
        else:
            self._descriptor.close()
            self._ended(self._child_fd)

    def give_back(self) -> None:
        """Before anything was read: our end is somebody else's again, open."""
        self._descriptor.give_back()

    def _read(self) -> None:
        try:
            data = os.read(self._fd, POURING_BYTES)
        except BlockingIOError:
            return
        if not data:
            self.close()
            return
        with self._log.failuresHandled("recording output"):  # or Twisted would watch this pipe no longer
            self._protocol.childDataReceived(self._child_fd, data)
        if len(data) >= POURING_BYTES:
            enlarge(self._fd)
            self._reactor.removeReader(self._descriptor)
            self._hand_over()

    def _hand_over(self) -> None:
        """To a thread; where the machine has none for it, the reactor goes on reading."""
        self._pouring = True
        try:
            self._reactor.callInThread(self._pour)
        except RuntimeError:
            self._pouring = False
            self._reactor.addReader(self._descriptor)

    def _pour(self) -> None:
        """In a thread: until there is nothing to read, or the turn is over."""
        again = over = False
        try:
            with a_basin() as basin:
                again, over = self._copy(basin, time.monotonic() + TURN_SECONDS)
        except Exception:  # a mistake of ours must not leave the job on a pipe that nobody reads
            self._log.failure("copying output")
        self._reactor.callFromThread(self._turn_over, again, over)

    def _copy(self, basin: Basin | None, end: float) -> tuple[bool, bool]:
        """Whether the turn ended before the output did, and whether the pipe has."""
        ready = select.poll()
        ready.register(self._fd, select.POLLIN)
        tell = 0.0
        while not self._closing:
            try:
                read = self._pour_once(basin)
            except BlockingIOError:
                self._tell_poured()
                tell = 0.0
                if not ready.poll(PATIENCE_MILLISECONDS):
                    return False, False
                continue
            if not read:
                return False, True
            now = time.monotonic()
            if now >= tell:
                tell = now + TELL_SECONDS
                self._tell_poured()
            if now > end:
                return True, False
        return False, False

    def _pour_once(self, basin: Basin | None) -> int:
        if basin is None:
            return self._protocol.childDataPours(self._child_fd, self._fd, PIPE_BYTES)
        left = taken = basin.fill(self._fd)
        while left:
            left -= self._protocol.childDataPours(self._child_fd, basin.fd, left)
        return taken

    def _tell_poured(self) -> None:
        """Viewers are told of several blocks at once when the reactor is busy."""
        if not self._told:
            self._told = True
            self._reactor.callFromThread(self._poured)

    def _poured(self) -> None:
        self._told = False
        with self._log.failuresHandled("telling who waits for output"):
            self._protocol.childDataPoured(self._child_fd)

    def _turn_over(self, again: bool, over: bool) -> None:
        self._poured()
        self._pouring = again and not self._closing
        if over or self._closing:
            self.close()
        elif again:
            self._hand_over()
        else:
            self._reactor.addReader(self._descriptor)
