"""A descriptor that is watched for reading, and what that takes of a reactor."""

from __future__ import annotations

import os
from collections.abc import Callable

from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from txworker.base.reactor import WatchingReactor


@implementer(IReadDescriptor)
class Descriptor:
    """
    Calls back whenever a descriptor can be read; closes it once.

    Raises:
        OSError: it cannot be watched; it is the caller's.
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
