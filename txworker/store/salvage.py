"""Copies the rows of a damaged store that can still be read, leaving out the pages that cannot."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from txworker.base.directory import open_own
from txworker.store.rows import NAMES, job_from_row, labels_of, spec_from_text, spec_to_text

RANGE = 1000
"""How many numbers are read with one query, unless that fails."""

MAX_SECONDS = 20.0
"""Spent on queries that fail. After that a range that cannot be read is left out, because the worker has to start."""

Row = tuple[Any, ...]

_FULL_SPEC_COLUMNS = ["number", "spec"]
_LABEL_COLUMNS = ["name", "value", "number"]


@dataclass
class Salvaged:
    """
    What was copied.

    jobs, removed: rows of these tables.
    lost: ids of jobs that are in an index, but have rows that cannot be read.
    number, revision: the highest that were found anywhere.
    """

    jobs: int = 0
    removed: int = 0
    lost: tuple[str, ...] = ()
    number: int = 0
    revision: int = 0


def salvage(damaged: Path, into: sqlite3.Connection) -> Salvaged:
    """
    Copy what can be read into a new store. Reads a copy of the damaged file, because SQLite would change the original.

    Raises:
        sqlite3.Error, OSError: the new store cannot be written, or there is no room for a copy.
    """
    copy = salvage_copy(damaged)
    try:
        for suffix in ("", "-wal"):
            Path(f"{copy}{suffix}").unlink(missing_ok=True)
            with suppress(FileNotFoundError):
                _copy(f"{damaged}{suffix}", f"{copy}{suffix}")
        with closing(sqlite3.connect(copy, isolation_level=None)) as source:
            return _Salvage(source, into).run()
    finally:
        for suffix in ("", "-wal", "-shm"):
            Path(f"{copy}{suffix}").unlink(missing_ok=True)


def salvage_copy(damaged: Path) -> Path:
    """The copy's name. A process that is killed leaves it behind."""
    return damaged.with_name(f"{damaged.name}.copy")


def _copy(path: str, to: str) -> None:
    """Copies into a new file; fails when the name is taken."""
    with open(path, "rb") as source, open(open_own(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as copy:
        shutil.copyfileobj(source, copy)


class _Salvage:
    def __init__(self, source: sqlite3.Connection, into: sqlite3.Connection) -> None:
        self._source = source
        self._into = into
        self._failed_seconds = 0.0
        self._salvaged = Salvaged()

    def run(self) -> Salvaged:
        """Copy what can be read, in one transaction. Raises sqlite3.Error: the new file cannot be written."""
        salvaged = self._salvaged
        indexed = self._indexed_ids()
        salvaged.number = max(indexed, default=0)
        self._into.execute("BEGIN")
        self._copy_tables()
        self._into.execute("COMMIT")
        copied = {number for (number,) in self._into.execute("SELECT number FROM jobs")}
        salvaged.lost = tuple(job_id for number, job_id in sorted(indexed.items()) if number not in copied)
        (number,) = self._into.execute(
            "SELECT max((SELECT coalesce(max(number), 0) FROM jobs), (SELECT coalesce(max(number), 0) FROM removed))"
        ).fetchone()
        salvaged.number = max(salvaged.number, number)
        (salvaged.revision,) = self._into.execute("SELECT coalesce(max(revision), 0) FROM jobs").fetchone()
        return salvaged

    def _copy_tables(self) -> None:
        columns = _columns(self._source, self._into, "jobs")
        self._salvaged.jobs = sum(self._insert_jobs(columns, rows) for rows in self._rows("jobs", columns))
        columns = _columns(self._source, self._into, "orders")
        for rows in self._rows("orders", columns):
            self._insert_full_specs(rows)
        columns = _columns(self._source, self._into, "removed")
        self._salvaged.removed = sum(self._insert("removed", columns, rows) for rows in self._rows("removed", columns))
        for table in ("labels", "orders"):
            self._into.execute(f"DELETE FROM {table} WHERE number NOT IN (SELECT number FROM jobs)")

    def _indexed_ids(self) -> dict[int, str]:
        """Ids by number from the index of ids: it has pages of its own, so it also has jobs without rows."""
        found: dict[int, str] = {}
        for direction in ("", " DESC"):
            with suppress(sqlite3.Error):
                sql = f"SELECT number, id FROM jobs INDEXED BY sqlite_autoindex_jobs_1 ORDER BY id{direction}"
                for number, job_id in self._source.execute(sql):  # up to a damaged page, from either end
                    found[number] = str(job_id)
        return found

    def _rows(self, table: str, columns: list[str]) -> Iterator[list[Row]]:
        if not columns:
            return
        lowest, highest = (self._edge(table, direction) for direction in ("", " DESC"))
        last = max(self._salvaged.number, highest or 0)
        sql = f"SELECT {', '.join(columns)} FROM {table} WHERE number BETWEEN ? AND ? ORDER BY number"
        for first in range(lowest or 1, last + 1, RANGE):
            yield self._between(sql, first, min(first + RANGE - 1, last))

    def _edge(self, table: str, direction: str) -> int | None:
        with suppress(sqlite3.Error):
            for (number,) in self._source.execute(f"SELECT number FROM {table} ORDER BY number{direction} LIMIT 1"):
                return int(number)
        return None

    def _between(self, sql: str, first: int, last: int) -> list[Row]:
        """The rows with these numbers. A range that cannot be read is halved, down to single rows."""
        begun = time.monotonic()
        try:
            return self._source.execute(sql, (first, last)).fetchall()
        except sqlite3.Error:
            self._failed_seconds += time.monotonic() - begun
            if first == last or self._failed_seconds > MAX_SECONDS:
                return []
        middle = (first + last) // 2
        return self._between(sql, first, middle) + self._between(sql, middle + 1, last)

    def _insert_jobs(self, columns: list[str], rows: list[Row]) -> int:
        """Leaves out rows that can be read but make no job."""
        jobs: list[Row] = []
        full_specs: list[Row] = []
        labels: list[Row] = []
        for row in rows:
            values = dict(zip(columns, row, strict=True))
            with suppress(Exception):  # the values may be anything
                job = job_from_row([values.get(name) for name in NAMES])
                shortened = job.changed(spec=job.spec.shortened())
                labels += labels_of(job)
                if shortened.spec.cut is not job.spec.cut:  # from before the table of full specs
                    full_specs.append((job.number, values["spec"]))
                    values["spec"] = spec_to_text(shortened.spec)
                jobs.append(tuple(values.values()))
        inserted = self._insert("jobs", columns, jobs)
        self._insert("orders", _FULL_SPEC_COLUMNS, full_specs)
        self._insert("labels", _LABEL_COLUMNS, labels)
        return inserted

    def _insert_full_specs(self, rows: list[Row]) -> None:
        """Inserts the labels, too, because a shortened spec may have only some of them."""
        full_specs: list[Row] = []
        labels: list[Row] = []
        for number, text in rows:
            with suppress(Exception):  # as above
                labels += [(name, value, number) for name, value in spec_from_text(text).labels.items()]
                full_specs.append((number, text))
        self._insert("orders", _FULL_SPEC_COLUMNS, full_specs)
        self._insert("labels", _LABEL_COLUMNS, labels)

    def _insert(self, table: str, columns: list[str], rows: list[Row]) -> int:
        """How many rows were inserted. OR IGNORE leaves out those that violate NOT NULL or UNIQUE."""
        sql = f"INSERT OR IGNORE INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"
        return max(self._into.executemany(sql, rows).rowcount, 0)


def _columns(source: sqlite3.Connection, into: sqlite3.Connection, table: str) -> list[str]:
    """The columns that both tables have, the number first; empty when they cannot be read."""
    try:
        damaged, new = ([row[1] for row in one.execute(f"PRAGMA table_info({table})")] for one in (source, into))
    except sqlite3.Error:
        return []
    return [name for name in new if name in damaged]
