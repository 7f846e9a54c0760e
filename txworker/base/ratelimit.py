"""Lines of the log that others can cause as often as they like: the first ones, then how many more there were."""

from __future__ import annotations

import threading
from collections.abc import Callable

from txworker.base.logs import Logger
from txworker.base.reactor import ClockWithThreads

MOST_LINES, PERIOD_SECONDS = 20, 5.0
"""Of one kind: enough to see what is going on; and when it goes on all day, 30 MB."""

Allows = Callable[[str], bool]
"""Whether a line of that kind is to be written now; otherwise it is counted, and told of later."""


class RateLimit:
    """
    At most `most` lines of a kind in each period, which begins with the first of them. When it is over one line says
    how many more there were, if any.

    Not for what is said of a job that exists: none of that may be missing.
    """

    _log = Logger()

    def __init__(
        self, reactor: ClockWithThreads, most: int = MOST_LINES, period_seconds: float = PERIOD_SECONDS
    ) -> None:
        self._reactor = reactor
        self._most = most
        self._period_seconds = period_seconds
        self._lock = threading.Lock()
        self._periods: dict[str, _Period] = {}
        self._closed = False

    def allows(self, kind: str) -> bool:
        """
        Whether one more line of that kind may be written. Any thread.

        A kind is remembered, and told: so it is words of ours, of which there are few, and never somebody else's text.
        """
        with self._lock:
            now = self._reactor.seconds()
            period = self._periods.get(kind)
            if period is None or (now >= period.end and not period.held):
                period = self._periods[kind] = _Period(now + self._period_seconds)
            if period.written < self._most or self._closed:
                period.written += 1
                return True
            period.held += 1
            first = period.held == 1
        if first:
            self._reactor.callFromThread(self._tell_later, kind, period.end - now)
        return False

    def close(self) -> None:
        """Tell what has not been told; from now on every line is allowed. ClockWithThreads thread."""
        with self._lock:
            self._closed = True
            kinds = list(self._periods)
        for kind in kinds:
            self._tell(kind)

    def _tell_later(self, kind: str, seconds: float) -> None:
        if not self._closed:
            self._reactor.callLater(seconds, self._tell, kind)

    def _tell(self, kind: str) -> None:
        with self._lock:
            period = self._periods.pop(kind, None)
        if period is not None and period.held:
            text = "… and {count} more like it within {seconds:g} s: {kind}."
            self._log.info(text, count=period.held, seconds=self._period_seconds, kind=kind)


class _Period:
    __slots__ = ("end", "held", "written")

    def __init__(self, end: float) -> None:
        self.end = end
        self.written = self.held = 0
