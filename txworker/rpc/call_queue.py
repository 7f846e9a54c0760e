"""Calls from any thread into the reactor thread, with one wake-up for all calls that are queued meanwhile."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any

from txworker.base.logs import Logger
from txworker.base.reactor import FromThreads
from txworker.ports import NO_OBSERVER


class CallQueue:
    """
    Has the reactor's callFromThread(), but wakes the reactor once for all calls that come before it runs them.

    The reactor itself is woken for each call, by a write(2) that often hands the GIL to another thread.

    waited(seconds) is called once for each wake-up, with the time that the first of its calls waited.
    """

    _log = Logger()

    def __init__(self, reactor: FromThreads, waited: Callable[[float], None] = NO_OBSERVER.bridged) -> None:
        self._reactor = reactor
        self._waited = waited
        self._scheduled_at = 0.0
        self._calls: deque[tuple[Callable[..., Any], tuple[Any, ...]]] = deque()
        self._scheduled = False

    def callFromThread(self, callable: Callable[..., Any], *args: Any) -> None:
        """As the reactor's. Any thread."""
        self._calls.append((callable, args))
        if not self._scheduled:  # _run() resets it before it takes the calls, so no call is missed
            self._scheduled = True
            self._scheduled_at = time.perf_counter()
            self._reactor.callFromThread(self._run)

    def _run(self) -> None:
        self._waited(time.perf_counter() - self._scheduled_at)
        self._scheduled = False
        for _ in range(len(self._calls)):
            call, args = self._calls.popleft()
            try:
                call(*args)
            except Exception:  # as the reactor does: a failing call must not stop those behind it
                self._log.failure("calling {call}", call=call)
