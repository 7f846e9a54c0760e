"""Streams the list of jobs to a browser: all that match the filters, then changes, a few times a second at most."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from typing import Any

from txworker.base.reactor import Clock, Timer
from txworker.page.event_stream import EventStream
from txworker.page.history import BUCKET_SECONDS, added
from txworker.page.selection import Selection
from txworker.page.table import JobTable
from txworker.page.values import Key, Row
from txworker.page.worker_link import WorkerLink

TICK_SECONDS = 0.25
"""Fast enough for a person to watch."""

MOST_CHANGES = 300
"""The most rows that one tick sends as changes; if more have changed, the whole list is sent again."""

RELIST_SECONDS = 60.0
"""How often a list that is limited to recent jobs is sent again: a job becomes too old for it without a change."""


def listed(jobs: JobTable, selection: Selection, limit: int, now: float) -> tuple[list[Row], list[Row]]:
    """The newest `limit` jobs that match, newest first; and all that match."""
    found = list(jobs.matching(selection, now))
    return heapq.nlargest(limit, found, key=lambda row: (row.created, row.id)), found


class ListStream:
    """Sends one browser's list until its stream is over. now() is the wall clock, in seconds since the epoch."""

    def __init__(
        self,
        stream: EventStream,
        clock: Clock,
        now: Callable[[], float],
        jobs: JobTable,
        links: Sequence[WorkerLink],
        selection: Selection,
        limit: int,
    ) -> None:
        self._stream = stream
        self._clock = clock
        self._now = now
        self._jobs = jobs
        self._selection = selection
        self._limit = limit
        self._links = [link for link in links if not selection.workers or link.worker.name in selection.workers]
        self._every_link = links
        self._changed: set[Key] = set()
        self._matching: set[Key] = set()
        self._timer: Timer | None = None
        self._listed_at: float | None = None
        self._series_at = 0.0
        self._workers: list[dict[str, Any]] = []
        stream.on_end(self._end)
        stream.on_end(jobs.subscribe(self._changed.add))
        for link in links:
            stream.on_end(link.look_at())
        self._send_workers()
        self._send_list()
        self._send_series()
        self._again()

    def _tick(self) -> None:
        if not self._stream.paused:
            self._send_workers()
            if len(self._changed) > MOST_CHANGES or self._outdated():
                self._send_list()
            elif self._changed:
                self._send_changes()
            if self._now() // BUCKET_SECONDS != self._series_at // BUCKET_SECONDS:
                self._send_series()
        elif len(self._changed) > MOST_CHANGES:  # so many that the list is sent again
            self._listed_at = None
            self._changed.clear()
        self._again()

    def _again(self) -> None:
        self._timer = self._clock.callLater(TICK_SECONDS, self._tick)

    def _outdated(self) -> bool:
        limit = RELIST_SECONDS if self._selection.within is not None else float("inf")
        return self._listed_at is None or self._clock.seconds() - self._listed_at >= limit

    def _send_workers(self) -> None:
        workers = [link.status() for link in self._every_link]
        if workers != self._workers:
            self._workers = workers
            self._stream.send("workers", workers)

    def _send_list(self) -> None:
        self._changed.clear()
        now = self._now()
        rows, found = listed(self._jobs, self._selection, self._limit, now)
        self._matching = {row.key for row in found}
        self._listed_at = self._clock.seconds()
        self._stream.send("list", {"jobs": [row.as_json() for row in rows], "total": len(found), "now": now})

    def _send_changes(self) -> None:
        now = self._now()
        rows, gone = [], []
        partly = len(self._matching) > self._limit  # the browser has only the newest of them
        for key in self._changed:
            row = self._jobs.get(key)
            if row is not None and self._selection.has(row, now):
                self._matching.add(key)
                rows.append(row.as_json())
            elif key in self._matching:
                self._matching.discard(key)
                gone.append(key)
        self._changed.clear()
        if partly and gone:  # others take their places
            self._send_list()
        elif rows or gone:
            self._stream.send("changes", {"jobs": rows, "gone": gone, "total": len(self._matching), "now": now})

    def _send_series(self) -> None:
        self._series_at = now = self._now()
        series = [link.history.series(now, self._jobs.running(link.worker.name)) for link in self._links]
        self._stream.send("series", added(series))

    def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
