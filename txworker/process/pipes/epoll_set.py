"""
Many descriptors that the reactor watches as one: the pipes of all jobs and the connection to the shim.

In Twisted, adding, reporting and removing one descriptor costs more than what the worker does with it. So descriptors
that come and go with each job are in an epoll set of their own, and the reactor watches that set, which is readable
when one of its members is (epoll(7)).
"""

from __future__ import annotations

import errno
import select
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from txworker.base.logs import Logger
from txworker.linux.cpus import CpuPinning

EVENTS_PER_TURN = 64
"""Descriptors that are read in one turn of the reactor; the others wait for the next turn."""


@implementer(IReadDescriptor)
class EpollSet:
    """
    A WatchingReactor: the reactor's methods for readers, threads and time. Reactor thread.

    Raises:
        OSError: there is no descriptor left for it.
    """

    _log = Logger()

    def __init__(self, reactor: Any, pinning: CpuPinning, events_per_turn: int = EVENTS_PER_TURN) -> None:
        self._reactor = reactor
        self._pinning = pinning
        self._events_per_turn = events_per_turn
        self._readers: dict[int, Any] = {}
        self._epoll = select.epoll()
        self.callFromThread: Callable[..., None] = reactor.callFromThread
        self.callLater: Callable[..., Any] = reactor.callLater
        reactor.addReader(self)

    def addReader(self, reader: Any) -> None:
        """
        Call reader.doRead() whenever its descriptor can be read or has hung up.

        Raises:
            OSError: the kernel has no room for it; its ENOSPC, which is of no disk, is ENOMEM here.
        """
        fd = reader.fileno()
        if fd not in self._readers:
            try:
                self._epoll.register(fd, select.EPOLLIN)
            except OSError as error:
                if error.errno == errno.ENOSPC:  # fs.epoll.max_user_watches, a limit of the memory for watches
                    raise OSError(errno.ENOMEM, "fs.epoll.max_user_watches is reached") from error
                raise
            self._readers[fd] = reader

    def removeReader(self, reader: Any) -> None:
        """Stop watching it; a second call does nothing."""
        fd = reader.fileno()
        if self._readers.get(fd) is reader:
            del self._readers[fd]
            self._unregister(fd)

    def callInThread(self, callable: Callable[..., Any], *args: Any) -> None:
        """As the reactor's. The call may run on every CPU: it is for work that does not hold Python's lock."""
        self._reactor.callInThread(self._unpinned, callable, *args)

    def _unpinned(self, callable: Callable[..., Any], *args: Any) -> None:
        with self._pinning.unpinned():
            callable(*args)

    def fileno(self) -> int:
        """Twisted: the watched descriptor."""
        return self._epoll.fileno()

    def doRead(self) -> None:
        """
        Twisted: some descriptors can be read. A reader may be called without need, when its descriptor has the number
        of one that was removed in the same turn.
        """
        for fd, _ in self._epoll.poll(0, self._events_per_turn):
            reader = self._readers.get(fd)
            if reader is None:
                self._unregister(fd)
                continue
            try:
                reader.doRead()
            except Exception:  # a bug in one reader must not stop the others
                self._log.failure("Reading from {reader}", reader=reader)
                self.removeReader(reader)

    def _unregister(self, fd: int) -> None:
        """Where that fails, it is tried again at the descriptor's next event."""
        with suppress(OSError):
            self._epoll.unregister(fd)

    def connectionLost(self, reason: Failure) -> None:
        """Twisted: never called, because an epoll set does not hang up."""

    def logPrefix(self) -> str:
        """Twisted: the name in Twisted's log."""
        return "txworker.process"

    def close(self) -> None:
        """Stop watching."""
        self._reactor.removeReader(self)
        self._epoll.close()
