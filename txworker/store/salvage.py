"""What can still be read of a damaged store: each row on its own, around the pages that cannot be read."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from txworker.base.directory import open_own
from txworker.store.rows import COLUMNS, job_from_row, labels_of, spec_from_text, spec_to_text

AT_ONCE = 1000
"""Numbers that are read together, until one of them cannot be."""

MOST_SECONDS = 20.0
"""Spent on what cannot be read; then it is not looked for single rows in it any more, for the worker is to start."""

Row = tuple[Any, ...]

_NAMES = COLUMNS.split(", ")
_ORDER = ["number", "spec"]
_LABEL = ["name", "value", "number"]


@dataclass
class Saved:
    """
    How much that was. lost: ids of jobs that an index still knows, and whose record cannot be read. number, revision:
    the highest that were seen anywhere.
    """

    jobs: int = 0
    removed: int = 0
    lost: tuple[str, ...] = ()
    number: int = 0
    revision: int = 0


def salvage(damaged: Path, into: sqlite3.Connection) -> Saved:
    """
    Copy what can be read into a new store. The damaged one is read in a copy, as SQLite would change it.

    Raises:
        sqlite3.Error, OSError: the new one cannot be written, or there is no room for a copy.
    """
    copy = damaged.with_name(f"{damaged.name}.copy")
    try:
        for ending in ("", "-wal"):
            Path(f"{copy}{ending}").unlink(missing_ok=True)
            with suppress(FileNotFoundError):
                _copy(f"{damaged}{ending}", f"{copy}{ending}")
        with closing(sqlite3.connect(copy, isolation_level=None)) as source:
            return _Salvage(source, into).run()
    finally:
        for ending in ("", "-wal", "-shm"):
            Path(f"{copy}{ending}").unlink(missing_ok=True)


def _copy(path: str, to: str) -> None:
    """Into a new file that is the worker's own, whatever another has put there."""
    with open(path, "rb") as there, open(open_own(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as here:
        shutil.copyfileobj(there, here)


class _Salvage:
    def __init__(self, source: sqlite3.Connection, into: sqlite3.Connection) -> None:
        self._source = source
        self._into = into
        self._spent = 0.0
        self._saved = Saved()

    def run(self) -> Saved:
        saved = self._saved
        known = self._known_ids()
        saved.number = max(known, default=0)
        self._into.execute("BEGIN")
        columns = _columns(self._source, self._into, "jobs")
        saved.jobs = sum(self._keep_jobs(columns, rows) for rows in self._rows("jobs", columns))
        columns = _columns(self._source, self._into, "orders")
        for rows in self._rows("orders", columns):
            self._keep_orders(rows)
        columns = _columns(self._source, self._into, "removed")
        saved.removed = sum(self._keep("removed", columns, rows) for rows in self._rows("removed", columns))
        for table in ("labels", "orders"):
            self._into.execute(f"DELETE FROM {table} WHERE number NOT IN (SELECT number FROM jobs)")
        self._into.execute("COMMIT")
        kept = {number for (number,) in self._into.execute("SELECT number FROM jobs")}
        saved.lost = tuple(job_id for number, job_id in sorted(known.items()) if number not in kept)
        (number,) = self._into.execute(
            "SELECT max((SELECT coalesce(max(number), 0) FROM jobs), (SELECT coalesce(max(number), 0) FROM removed))"
        ).fetchone()
        saved.number = max(saved.number, number)
        (saved.revision,) = self._into.execute("SELECT coalesce(max(revision), 0) FROM jobs").fetchone()
        return saved

    def _known_ids(self) -> dict[int, str]:
        """The index of ids has pages of its own: who stands in there, though the record may be lost."""
        found: dict[int, str] = {}
        for direction in ("", " DESC"):
            with suppress(sqlite3.Error):
                sql = f"SELECT number, id FROM jobs INDEXED BY sqlite_autoindex_jobs_1 ORDER BY id{direction}"
                for number, job_id in self._source.execute(sql):  # those before the damage, if there is any
                    found[number] = str(job_id)
        return found

    def _rows(self, table: str, columns: list[str]) -> Iterator[list[Row]]:
        if not columns:
            return
        lowest, highest = (self._edge(table, direction) for direction in ("", " DESC"))
        known = max(self._saved.number, highest or 0)
        sql = f"SELECT {', '.join(columns)} FROM {table} WHERE number BETWEEN ? AND ? ORDER BY number"
        for first in range(lowest or 1, known + 1, AT_ONCE):
            yield self._between(sql, first, min(first + AT_ONCE - 1, known))

    def _edge(self, table: str, direction: str) -> int | None:
        with suppress(sqlite3.Error):
            for (number,) in self._source.execute(f"SELECT number FROM {table} ORDER BY number{direction} LIMIT 1"):
                return int(number)
        return None

    def _between(self, sql: str, first: int, last: int) -> list[Row]:
        """Those with these numbers; where that fails each half by itself, to the single row."""
        begun = time.monotonic()
        try:
            return self._source.execute(sql, (first, last)).fetchall()
        except sqlite3.Error:
            self._spent += time.monotonic() - begun
            if first == last or self._spent > MOST_SECONDS:
                return []
        middle = (first + last) // 2
        return self._between(sql, first, middle) + self._between(sql, middle + 1, last)

    def _keep_jobs(self, columns: list[str], rows: list[Row]) -> int:
        """A row may be readable and yet be nonsense."""
        sound: list[Row] = []
        orders: list[Row] = []
        labels: list[Row] = []
        for row in rows:
            said = dict(zip(columns, row, strict=True))
            with suppress(Exception):  # whatever is in there
                job = job_from_row(tuple(said.get(name) for name in _NAMES))
                brief = replace(job, spec=job.spec.shortened())
                labels += labels_of(job)
                if brief.spec.cut is not job.spec.cut:  # as it was before there was a table for long orders
                    orders.append((job.number, said["spec"]))
                    said["spec"] = spec_to_text(brief.spec)
                sound.append(tuple(said.values()))
        kept = self._keep("jobs", columns, sound)
        self._keep("orders", _ORDER, orders)
        self._keep("labels", _LABEL, labels)
        return kept

    def _keep_orders(self, rows: list[Row]) -> None:
        """The labels that a brief order has left out are known from the whole one."""
        sound: list[Row] = []
        labels: list[Row] = []
        for number, text in rows:
            with suppress(Exception):  # as above
                labels += [(name, value, number) for name, value in spec_from_text(text).labels.items()]
                sound.append((number, text))
        self._keep("orders", _ORDER, sound)
        self._keep("labels", _LABEL, labels)

    def _keep(self, table: str, columns: list[str], rows: list[Row]) -> int:
        """How many there were: OR IGNORE leaves out those that have a NULL where none may be, or an id of another."""
        sql = f"INSERT OR IGNORE INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"
        return max(self._into.executemany(sql, rows).rowcount, 0)


def _columns(source: sqlite3.Connection, into: sqlite3.Connection, table: str) -> list[str]:
    """Those of the damaged table that the new one has, too, the number first; none when nobody can tell."""
    try:
        theirs, ours = ([row[1] for row in one.execute(f"PRAGMA table_info({table})")] for one in (source, into))
    except sqlite3.Error:
        return []
    return [name for name in ours if name in theirs]
