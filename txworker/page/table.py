"""The jobs that the page knows, of all workers; only the newest of each worker are kept. Reactor thread only."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterator

from txworker.client import JobState
from txworker.page.selection import Selection
from txworker.page.values import UNFINISHED, Key, Row

MOST_ROWS = 20_000
"""How many jobs of each worker are kept, about 1 KB each. All that are not done are kept, even if they are more."""

Changed = Callable[[Key], None]


class JobTable:
    """
    Rows by worker and id. Subscribers are told which row has changed, and read it when they are ready.

    When a worker has more than `most` jobs by a tenth, the oldest that are done are forgotten.
    """

    def __init__(self, most: int = MOST_ROWS) -> None:
        self._most = most
        self._rows: dict[str, dict[str, Row]] = {}
        self._states: dict[str, Counter[JobState]] = {}
        self._subscribers: list[Changed] = []

    def put(self, row: Row) -> Row | None:
        """Add or replace a row; returns the one before, None: there was none."""
        rows = self._rows.setdefault(row.worker, {})
        old = rows.get(row.id)
        if old == row:
            return old
        rows[row.id] = row
        states = self._states.setdefault(row.worker, Counter())
        states[row.state] += 1
        if old is not None:
            states[old.state] -= 1
        elif len(rows) > self._most + self._most // 10:
            self._forget_oldest(row.worker)
        self._tell(row.key)
        return old

    def get(self, key: Key) -> Row | None:
        """The row; None: there is none, or it was forgotten."""
        return self._rows.get(key[0], {}).get(key[1])

    def remove(self, key: Key) -> None:
        """The worker has no such job any more."""
        row = self._rows.get(key[0], {}).pop(key[1], None)
        if row is not None:
            self._states[row.worker][row.state] -= 1
            self._tell(key)

    def running(self, worker: str) -> int:
        """How many jobs of the worker have a process."""
        states = self._states.get(worker, Counter())
        return states[JobState.RUNNING] + states[JobState.STOPPING]

    def total(self, worker: str) -> int:
        """How many jobs of the worker are known."""
        return len(self._rows.get(worker, {}))

    def done(self, worker: str) -> list[str]:
        """The ids of the worker's jobs that are done."""
        return [row.id for row in self._rows.get(worker, {}).values() if row.state not in UNFINISHED]

    def matching(self, selection: Selection, now: float) -> Iterator[Row]:
        """All rows that match, in no particular order."""
        for worker, rows in self._rows.items():
            if not selection.workers or worker in selection.workers:
                yield from (row for row in rows.values() if selection.has(row, now))

    def subscribe(self, changed: Changed) -> Callable[[], None]:
        """Call changed(key) at each change from now on. Returns the function that ends the subscription."""
        self._subscribers.append(changed)
        return lambda: self._subscribers.remove(changed)

    def _forget_oldest(self, worker: str) -> None:
        rows = self._rows[worker]
        done = (row for row in rows.values() if row.state not in UNFINISHED)
        for row in heapq.nsmallest(len(rows) - self._most, done, key=lambda row: row.created):
            self.remove(row.key)

    def _tell(self, key: Key) -> None:
        for changed in list(self._subscribers):
            changed(key)
