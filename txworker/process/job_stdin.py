"""The standard input of a job that was started with feed, as the worker sees it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred

from txworker.base.waiting import Waiters


class JobStdin:
    """
    ports.Stdin. Reactor thread.

    hand_over(data, end) passes bytes on to what feeds the job: a Feeding (shim/feeding.py), in the shim or in this
    process. That reports by fed() when they are in the pipe; until then nothing more is handed over.
    """

    def __init__(self, hand_over: Callable[[bytes, bool], None], record: Mapping[str, Any]) -> None:
        self._hand_over = hand_over
        self._changed = Waiters()
        self.taken: int = record["taken"]
        self.is_open: bool = record["open"]
        self._busy: bool = record["busy"]
        self._refused = False

    def feed(self, data: bytes, end: bool) -> Deferred[int]:
        """As ports.Stdin.feed()."""
        return Deferred.fromCoroutine(self._feed(data, end))

    def closed(self) -> Deferred[None]:
        """As ports.Stdin.closed()."""
        return self._changed.until(lambda: not self.is_open)

    def fed(self, record: Mapping[str, Any]) -> None:
        """What Feeding.record() says now."""
        self.taken, self.is_open, self._busy = record["taken"], record["open"], record["busy"]
        self._refused = record.get("refused", False)
        self._changed.wake()

    def close(self) -> None:
        """The job is over."""
        self.is_open = self._busy = False
        self._changed.wake()

    async def _feed(self, data: bytes, end: bool) -> int:
        await self._changed.until(lambda: not self._busy)
        if not self.is_open:
            return 0
        before = self.taken
        self._busy, self._refused = True, False
        self.taken += len(data)
        try:
            self._hand_over(data, end)
        except OSError:
            self._busy = False
            self.taken = before
            self._changed.wake()
            raise
        await self._changed.until(lambda: not self._busy)
        if self._refused:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return self.taken - before
