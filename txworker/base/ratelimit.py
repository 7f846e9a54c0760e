"""Limits log lines that clients can cause at will: the first lines of a period are written, the others are counted."""

from __future__ import annotations

import threading
from collections.abc import Callable

from txworker.base.logs import Logger
from txworker.base.reactor import ClockWithThreads

MOST_LINES, PERIOD_SECONDS = 20, 5.0
"""The most lines of one kind: enough to see what happens, and at most 30 MB a day."""

Allows = Callable[[str], bool]
"""Whether a line of this kind may be written now; if not, it is counted and reported later."""


class RateLimit:
    """
    Allows at most `most` lines of a kind in each period. A period begins with its first line; at its end one line
    reports how many more there were, if any.

    Not for lines about a job: none of these may be missing.
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
        Whether one more line of this kind may be written. Any thread.

        Kinds are kept in memory and logged, so they must be a few fixed texts of ours, never text from outside.
        """
        with self._lock:
            now = self._reactor.seconds()
            period = self._periods.get(kind)
            if period is None or (now >= period.end and not period.suppressed):
                period = self._periods[kind] = _Period(now + self._period_seconds)
            if period.written < self._most or self._closed:
                period.written += 1
                return True
            period.suppressed += 1
            first = period.suppressed == 1
        if first:
            self._reactor.callFromThread(self._report_later, kind, period.end - now)
        return False

    def close(self) -> None:
        """Report all counts now; from now on every line is allowed. Reactor thread."""
        with self._lock:
            self._closed = True
            kinds = list(self._periods)
        for kind in kinds:
            self._report(kind)

    def _report_later(self, kind: str, seconds: float) -> None:
        if not self._closed:
            self._reactor.callLater(seconds, self._report, kind)

    def _report(self, kind: str) -> None:
        with self._lock:
            period = self._periods.pop(kind, None)
        if period is not None and period.suppressed:
            text = "… and {count} more like it within {seconds:g} s: {kind}."
            self._log.info(text, count=period.suppressed, seconds=self._period_seconds, kind=kind)


class _Period:
    __slots__ = ("end", "suppressed", "written")

    def __init__(self, end: float) -> None:
        self.end = end
        self.written = self.suppressed = 0
