"""The parts of a Twisted reactor that the worker uses, as typed protocols."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol


class Timer(Protocol):
    """A scheduled call (IDelayedCall)."""

    def cancel(self) -> None:
        """Cancel the call."""


class Clock(Protocol):
    """A reactor's time (IReactorTime), in seconds."""

    def seconds(self) -> float:
        """The current time; only differences are meaningful."""

    def callLater(self, delay: float, callable: Callable[..., Any], *args: Any) -> Timer:
        """Call it after `delay` seconds."""


class FromThreads(Protocol):
    """The way from other threads to the reactor (IReactorFromThreads)."""

    def callFromThread(self, callable: Callable[..., Any], *args: Any) -> None:
        """Call it soon in the reactor thread. Any thread."""


class ClockWithThreads(Clock, FromThreads, Protocol):
    """A clock that other threads may use by callFromThread."""


class WatchingReactor(FromThreads, Protocol):
    """
    What watches the descriptors of jobs, and has threads and time: an EpollSet (process/pipes/epoll_set.py).

    A reader needs less than Twisted's IReadDescriptor: fileno() and doRead().
    """

    def addReader(self, reader: Any) -> None:
        """Call reader.doRead() whenever its descriptor, reader.fileno(), can be read or has hung up."""

    def removeReader(self, reader: Any) -> None:
        """Stop watching it."""

    def callInThread(self, callable: Callable[..., Any], *args: Any) -> None:
        """Call it in a thread of the reactor's pool."""

    def callLater(self, delay: float, callable: Callable[..., Any], *args: Any) -> Timer:
        """Call it after `delay` seconds."""
