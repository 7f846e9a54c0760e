"""Watches the write ends of pipes by Twisted's reactor, for the shim's Feeding where there is no shim."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IReadWriteDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer


class WriterWatch:
    """shim.feeding.Watch over a reactor (IReactorFDSet). Reactor thread."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._ends: dict[int, _WriteEnd] = {}

    def watch_writer(self, fd: int, ready: Callable[[], None]) -> None:
        """Call ready() when nothing can read the pipe; and when it has room, while watch_room() is on."""
        self._ends[fd] = _WriteEnd(fd, ready)
        self._reactor.addReader(self._ends[fd])  # never readable, but its hang-up is reported as if it were

    def watch_room(self, fd: int, wanted: bool) -> None:
        """Whether to call ready() when the pipe has room."""
        (self._reactor.addWriter if wanted else self._reactor.removeWriter)(self._ends[fd])

    def unwatch(self, fd: int) -> None:
        """Stop watching it, before it is closed."""
        end = self._ends.pop(fd, None)
        if end is not None:
            self._reactor.removeReader(end)
            self._reactor.removeWriter(end)


@implementer(IReadWriteDescriptor)
class _WriteEnd:
    def __init__(self, fd: int, ready: Callable[[], None]) -> None:
        self._fd = fd
        self._ready = ready

    def fileno(self) -> int:
        """Twisted: the watched descriptor."""
        return self._fd

    def doRead(self) -> None:
        """Twisted: it has hung up, as some reactors tell it."""
        self._ready()

    def doWrite(self) -> None:
        """Twisted: there is room."""
        self._ready()

    def connectionLost(self, reason: Failure) -> None:
        """Twisted: it has hung up; the reactor no longer watches it."""
        self._ready()

    def logPrefix(self) -> str:
        """Twisted: the name in Twisted's log."""
        return "txworker.process"
