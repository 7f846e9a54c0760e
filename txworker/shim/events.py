"""Waiting for many descriptors: one epoll set, and what to call for each of them."""

from __future__ import annotations

import select
from collections.abc import Callable

_EVENTS_PER_TURN = 64


class Events:
    """Used by one thread."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._ready: dict[int, Callable[[], None]] = {}

    def watch(self, fd: int, ready: Callable[[], None]) -> None:
        """Call ready() whenever that descriptor can be read or has hung up."""
        self._epoll.register(fd, select.EPOLLIN)
        self._ready[fd] = ready

    def unwatch(self, fd: int) -> None:
        """Stop watching it, before it is closed; a second call does nothing."""
        if self._ready.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def watch_room(self, fd: int, wanted: bool) -> None:
        """Whether to call its ready() also when that descriptor can be written."""
        self._epoll.modify(fd, select.EPOLLIN | (select.EPOLLOUT if wanted else 0))

    def wait(self, seconds: float | None) -> None:
        """Wait for events, so long at most, and make the calls."""
        for fd, _ in self._epoll.poll(seconds, _EVENTS_PER_TURN):
            ready = self._ready.get(fd)
            if ready is not None:
                ready()

    def close(self) -> None:
        """Stop watching all of them."""
        self._epoll.close()
