"""Waiting for many descriptors: one epoll set, and what to call for each of them."""

from __future__ import annotations

import select
from collections.abc import Callable
from contextlib import suppress

_EVENTS_PER_TURN = 64


def _raise() -> None:
    raise


class Events:
    """
    failed() is called in the `except` clause of an error that one of the calls raises; the other calls are made all the
    same. Used by one thread.
    """

    def __init__(self, failed: Callable[[], None] = _raise) -> None:
        self._failed = failed
        self._epoll = select.epoll()
        self._ready: dict[int, Callable[[], None]] = {}
        self._writers: set[int] = set()

    def watch(self, fd: int, ready: Callable[[], None]) -> None:
        """Call ready() whenever that descriptor can be read or has hung up."""
        self._epoll.register(fd, select.EPOLLIN)
        self._ready[fd] = ready

    def watch_writer(self, fd: int, ready: Callable[[], None]) -> None:
        """Call ready() when nothing can read what is written there; and at room, while watch_room() wants so."""
        self._epoll.register(fd, 0)
        self._ready[fd] = ready
        self._writers.add(fd)

    def unwatch(self, fd: int) -> None:
        """Stop watching it, before it is closed; a second call does nothing."""
        if self._ready.pop(fd, None) is not None:
            self._writers.discard(fd)
            self._unregister(fd)

    def watch_room(self, fd: int, wanted: bool) -> None:
        """Whether to call its ready() also when that descriptor can be written."""
        always = 0 if fd in self._writers else select.EPOLLIN
        self._epoll.modify(fd, always | (select.EPOLLOUT if wanted else 0))

    def wait(self, seconds: float | None) -> None:
        """Wait for events, for that many seconds at most, and make the calls."""
        found = self._epoll.poll(seconds, _EVENTS_PER_TURN)
        # SIGCONT interrupts it, and if the time is over by then, Python does not ask again (PEP 475).
        for fd, _ in found or self._epoll.poll(0, _EVENTS_PER_TURN):
            ready = self._ready.get(fd)
            if ready is None:
                self._unregister(fd)
                continue
            try:
                ready()
            except Exception:
                self._failed()

    def close(self) -> None:
        """Stop watching all of them."""
        self._epoll.close()

    def _unregister(self, fd: int) -> None:
        """Where that fails, it is tried again at the descriptor's next event."""
        with suppress(OSError):
            self._epoll.unregister(fd)
