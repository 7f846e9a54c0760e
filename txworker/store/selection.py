"""SQL for the parts of a Query that an index finds: the beginning of an id, and the time of creation. Pure."""

from __future__ import annotations

from txworker.jobs import Query

NARROW = 10_000
"""
A window of time with fewer finished jobs is read from the index of creation times and put into the order of numbers; in
a wider one nearly every job of the plain list matches. (A million jobs: 2 ms for 10,000 of them, 200 ms for all.)
"""

COUNT_WINDOW = (
    "SELECT count(*) FROM (SELECT 1 FROM jobs WHERE state >= 4 AND created_at >= ? AND created_at < ? AND number < ?"
    f" ORDER BY created_at LIMIT {NARROW})"
)
"""
The jobs that are left of a window below a number, or NARROW when there are more. The oldest first: as long as many are
left, these are not those that earlier pages have had.
"""

HIGHEST_IN_WINDOW = "SELECT max(number) FROM jobs WHERE state >= 4 AND created_at >= ? AND created_at < ?"

IN_WINDOW = " AND +created_at >= ? AND +created_at < ?"
"""A condition for WHERE; by the plus signs SQLite uses no index for it."""

_EVER = 1e18
"""Later than any time that a request may name, in seconds since the epoch."""

BY_ID = "id >= ? AND id < ?"
BY_TIME = "state >= 4 AND created_at >= ? AND created_at < ?"
"""Conditions for which SQLite uses an index."""


def window(query: Query) -> tuple[float, float]:
    """The parameters of a window."""
    return -_EVER if query.since is None else query.since, _EVER if query.until is None else query.until


def id_range(prefix: str) -> tuple[str, str]:
    """The parameters of BY_ID: the lowest text with that beginning, and the lowest after all of those."""
    return prefix, prefix[:-1] + chr(ord(prefix[-1]) + 1)
