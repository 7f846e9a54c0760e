"""What a worker did in the last hour: launches, failures, running jobs. Pure: the time is handed in."""

from __future__ import annotations

from collections import Counter
from typing import Any

from txworker.page.values import FAILURES, Row

BUCKET_SECONDS = 10
BUCKETS = 360
"""Together an hour."""


class History:
    """
    Counts in buckets of ten seconds. Times are those in the worker's records, so a page that is started later, or that
    loses its connection, knows as much of the last hour as one that was connected all the time.
    """

    def __init__(self) -> None:
        self._started: Counter[int] = Counter()
        self._ended: Counter[int] = Counter()
        self._failed: Counter[int] = Counter()

    def learn(self, old: Row | None, new: Row, now: float) -> None:
        """A job has changed from one row to another; None: it was not known."""
        oldest = int(now // BUCKET_SECONDS) - BUCKETS
        if new.started is not None and (old is None or old.started is None):
            self._count(self._started, new.started, oldest)
        if new.finished is not None and (old is None or old.finished is None):
            if new.started is not None:
                self._count(self._ended, new.finished, oldest)
            if new.state in FAILURES:
                self._count(self._failed, new.finished, oldest)

    def series(self, now: float, running: int) -> dict[str, Any]:
        """
        Columns with a value for each bucket, oldest first: the time at which it ends, the jobs that ran then, launches
        per second, failures. running: how many jobs run now.
        """
        last = int(now // BUCKET_SECONDS)
        buckets = range(last - BUCKETS + 1, last + 1)
        self._prune(buckets.start)
        counts: list[int] = []
        for bucket in reversed(buckets):
            counts.append(max(running, 0))
            running += self._ended[bucket] - self._started[bucket]
        return {
            "time": [(bucket + 1) * BUCKET_SECONDS for bucket in buckets],
            "running": counts[::-1],
            "launches": [self._started[bucket] / BUCKET_SECONDS for bucket in buckets],
            "failures": [self._failed[bucket] for bucket in buckets],
        }

    def _count(self, counter: Counter[int], at: float, oldest: int) -> None:
        bucket = int(at // BUCKET_SECONDS)
        if bucket > oldest:
            counter[bucket] += 1
        if len(counter) > 2 * BUCKETS:  # no browser has asked for a while
            self._prune(oldest)

    def _prune(self, oldest: int) -> None:
        for counter in (self._started, self._ended, self._failed):
            for bucket in [bucket for bucket in counter if bucket < oldest]:
                del counter[bucket]


def added(several: list[dict[str, Any]]) -> dict[str, Any]:
    """The sum of several workers' series, which were made at the same time; without workers it is empty."""
    if not several:
        return {"time": [], "running": [], "launches": [], "failures": []}
    columns = {name: zip(*(one[name] for one in several), strict=True) for name in several[0]}
    return {**{name: list(map(sum, column)) for name, column in columns.items()}, "time": several[0]["time"]}
