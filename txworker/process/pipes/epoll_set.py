"""
Watching many descriptors for reading, as the reactor sees one: the pipes and the exits of all children.

Twisted's own bookkeeping for one descriptor that is added, becomes ready once and is removed costs more than all that
is done with it. So those that come and go with each job are in an epoll set of their own, and the reactor watches
that set (epoll(7): a set can be read when one of its members can).
"""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from txworker.base.logs import Logger
from txworker.linux.cpus import CpuPinning

_AT_ONCE = 64
"""Of one turn; what is ready beyond that comes in the next, so that others have theirs."""


@implementer(IReadDescriptor)
class EpollSet:
    """
    Has the reactor's methods for readers, threads and time, as WatchingReactor asks for them. Reactor thread.

    Raises:
        OSError: no descriptor is left for it.
    """

    _log = Logger()

    def __init__(self, reactor: Any, pinning: CpuPinning) -> None:
        self._reactor = reactor
        self._pinning = pinning
        self._readers: dict[int, Any] = {}
        self._epoll = select.epoll()
        self.callFromThread: Callable[..., None] = reactor.callFromThread
        self.callLater: Callable[..., Any] = reactor.callLater
        reactor.addReader(self)

    def addReader(self, reader: Any) -> None:
        """From now on reader.doRead() is called whenever its descriptor can be read, or has hung up."""
        fd = reader.fileno()
        if fd not in self._readers:
            self._epoll.register(fd, select.EPOLLIN)
            self._readers[fd] = reader

    def removeReader(self, reader: Any) -> None:
        """Not any more; again is harmless."""
        fd = reader.fileno()
        if self._readers.get(fd) is reader:
            del self._readers[fd]
            self._epoll.unregister(fd)

    def callInThread(self, callable: Callable[..., Any], *args: Any) -> None:
        """As the reactor's, for what does not need Python's lock: it may run on every CPU."""
        self._reactor.callInThread(self._roaming, callable, *args)

    def _roaming(self, callable: Callable[..., Any], *args: Any) -> None:
        with self._pinning.unpinned():
            callable(*args)

    def fileno(self) -> int:
        """Twisted: what is watched."""
        return self._epoll.fileno()

    def doRead(self) -> None:
        """Twisted: some can be read. One that was removed meanwhile, and whose number another has, finds nothing."""
        for fd, _ in self._epoll.poll(0, _AT_ONCE):
            reader = self._readers.get(fd)
            if reader is None:
                continue
            try:
                reader.doRead()
            except Exception:  # a mistake of ours in one must not stop the others
                self._log.failure("reading from {reader}", reader=reader)
                self.removeReader(reader)

    def connectionLost(self, reason: Failure) -> None:
        """Twisted: never; a set does not hang up."""

    def logPrefix(self) -> str:
        """Twisted: for its own log."""
        return "txworker.process"

    def close(self) -> None:
        """Nothing is watched any more."""
        self._reactor.removeReader(self)
        self._epoll.close()
