"""A descriptor that the reactor watches for reading."""

from __future__ import annotations

import os
from collections.abc import Callable

from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from txworker.base.reactor import WatchingReactor


@implementer(IReadDescriptor)
class WatchedDescriptor:
    """
    Calls readable() whenever the descriptor can be read or has hung up.

    Raises:
        OSError: it cannot be watched; it stays the caller's.
    """

    __slots__ = ("_fd", "_reactor", "_readable")

    def __init__(self, reactor: WatchingReactor, fd: int, readable: Callable[[], None]) -> None:
        self._reactor = reactor
        self._fd = fd
        self._readable = readable
        try:
            reactor.addReader(self)
        except BaseException:
            self._fd = -1
            raise

    def fileno(self) -> int:
        """Twisted: the watched descriptor."""
        return self._fd

    def doRead(self) -> None:
        """Twisted: it can be read."""
        self._readable()

    def connectionLost(self, reason: Failure) -> None:
        """Twisted: it has hung up; readable() reads the end of the pipe."""
        self._readable()

    def logPrefix(self) -> str:
        """Twisted: the name in Twisted's log."""
        return "txworker.process"

    def close(self) -> None:
        """Close the descriptor; a second call does nothing."""
        if self._fd >= 0:
            os.close(self.detach())

    def detach(self) -> int:
        """Stop watching; returns the descriptor, which stays open."""
        fd = self._fd
        self._reactor.removeReader(self)
        self._fd = -1
        self._readable = _nothing  # the owner, which refers to this object: so both are freed at once
        return fd


def _nothing() -> None:
    """It is no longer watched."""
