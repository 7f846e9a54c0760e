"""A reactor that only keeps its readers, and has a Clock for its timers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.task import Clock


class FakeReaders:
    """addReader() fails beyond `room` readers, as epoll does. clock: the time of callLater()."""

    def __init__(self, room: int = 1000) -> None:
        self.room = room
        self.readers: list[Any] = []
        self.clock = Clock()

    def addReader(self, reader: Any) -> None:
        if len(self.readers) >= self.room:
            raise OSError(28, "No space left on device")
        self.readers.append(reader)

    def removeReader(self, reader: Any) -> None:
        if reader in self.readers:
            self.readers.remove(reader)

    def read(self) -> None:
        """Call every reader once, as when its descriptor can be read."""
        for reader in list(self.readers):
            reader.doRead()

    def callLater(self, delay: float, callable: Callable[..., Any], *args: Any) -> Any:
        return self.clock.callLater(delay, callable, *args)

    def callInThread(self, callable: Callable[..., Any], *args: Any) -> None:
        raise NotImplementedError

    def callFromThread(self, callable: Callable[..., Any], *args: Any) -> None:
        raise NotImplementedError
