"""Waiting for descriptors: one epoll set, and what to call for each."""

from __future__ import annotations

import select
from collections.abc import Callable

_AT_ONCE = 64


class Events:
    """One thread."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._ready: dict[int, Callable[[], None]] = {}

    def watch(self, fd: int, ready: Callable[[], None]) -> None:
        """From now on ready() is called whenever that descriptor can be read, or has hung up."""
        self._epoll.register(fd, select.EPOLLIN)
        self._ready[fd] = ready

    def unwatch(self, fd: int) -> None:
        """Not any more, before it is closed; again is harmless."""
        if self._ready.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def mind_room(self, fd: int, wanted: bool) -> None:
        """Whether ready() shall also be called when that descriptor can be written."""
        self._epoll.modify(fd, select.EPOLLIN | (select.EPOLLOUT if wanted else 0))

    def wait(self, seconds: float | None) -> None:
        """For the next of them, so long at most, and call what is due."""
        for fd, _ in self._epoll.poll(seconds, _AT_ONCE):
            ready = self._ready.get(fd)
            if ready is not None:
                ready()
