"""A reactor as far as the rooms use it: Twisted's interfaces, with types."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol


class Timer(Protocol):
    """A call that is still to come."""

    def cancel(self) -> None:
        """It shall not come."""


class Clock(Protocol):
    """A reactor's time (IReactorTime); seconds."""

    def seconds(self) -> float:
        """Now; only differences mean anything."""

    def callLater(self, delay: float, callable: Callable[..., Any], *args: Any) -> Timer:
        """Call it so many seconds from now."""


class FromThreads(Protocol):
    """The way back to the reactor (IReactorFromThreads)."""

    def callFromThread(self, callable: Callable[..., Any], *args: Any) -> None:
        """Call it in the reactor thread, soon. Any thread."""


class ClockWithThreads(Clock, FromThreads, Protocol):
    """Both."""


class WatchingReactor(FromThreads, Protocol):
    """A reactor that watches descriptors (IReactorFDSet) and has threads (IReactorInThreads)."""

    def addReader(self, reader: Any) -> None:
        """Watch it for reading."""

    def removeReader(self, reader: Any) -> None:
        """Watch it no longer."""

    def callInThread(self, callable: Callable[..., Any], *args: Any) -> None:
        """Call it in a thread of the reactor's pool."""

    def callLater(self, delay: float, callable: Callable[..., Any], *args: Any) -> Timer:
        """Call it so many seconds from now."""
