"""Lists by the beginning of an id and by a window of time: which jobs, by which index."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from txworker.jobs import Job, JobSpec, JobState, Query
from txworker.jobs.query import BEYOND_NEWEST
from txworker.store.files import connect, prepare
from txworker.store.reader import Reader
from txworker.store.records import Records
from txworker.store.rows import INSERT, UPDATE, changed_row, labels_of, new_row

IDS = ("00aa", "00ab", "01ff", "00aa-1", "ff00", "f")
"""The ids of the jobs 1 to 6, created at 101 to 106 s."""


class SelectionTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        prepare(self.path)
        self.statements: list[str] = []
        self.records = Records(Reader(self.connected))
        with closing(connect(self.path)) as connection:
            for number, job_id in enumerate(IDS, 1):
                self.add(connection, number, job_id, created_at=100.0 + number)

    def connected(self) -> sqlite3.Connection:
        connection = connect(self.path, existing=True)
        connection.set_trace_callback(self.statements.append)
        self.addCleanup(connection.close)
        return connection

    def add(self, connection: sqlite3.Connection, number: int, job_id: str, created_at: float) -> None:
        """A finished job; odd numbers failed and have a label."""
        spec = JobSpec("true", labels={"odd": "yes"} if number % 2 else {})
        state = JobState.FAILED if number % 2 else JobState.SUCCEEDED
        job = Job(job_id, spec, created_at, number, state, number, finished_at=created_at, exit_code=number % 2)
        connection.execute(INSERT, new_row(job))
        connection.execute(UPDATE, changed_row(job))
        connection.executemany("INSERT INTO labels (name, value, number) VALUES (?, ?, ?)", labels_of(job))

    def page(self, query: Query, before: int = BEYOND_NEWEST, most: int = 100) -> list[int]:
        return [job.number for job in self.records.finished_page(query, before, most)]

    def plan(self, ask: Callable[[], object]) -> list[str]:
        """How SQLite looks for the rows of the last question that is asked."""
        self.statements.clear()
        ask()
        with closing(connect(self.path)) as connection:
            return [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {self.statements[-1]}")]

    def test_owner(self) -> None:
        """No job has an owner: a list of one owner's is empty."""
        self.assertEqual([], self.page(Query(owner="me")))

    def test_prefix(self) -> None:
        """Ids that begin with the text, newest first, in pages, with states and labels and times."""
        for prefix, found in (("0", [4, 3, 2, 1]), ("00aa", [4, 1]), ("00aa-", [4]), ("f", [6, 5]), ("fff", [])):
            self.assertEqual(found, self.page(Query(id_prefix=prefix)))
        self.assertEqual([3, 2], self.page(Query(id_prefix="0"), before=4, most=2))
        self.assertEqual([3, 1], self.page(Query(frozenset([JobState.FAILED]), id_prefix="0")))
        self.assertEqual([3, 1], self.page(Query(labels={"odd": "yes"}, id_prefix="0")))
        self.assertEqual([3, 2], self.page(Query(id_prefix="0", since=102.0, until=104.0)))
        self.assertEqual([], self.page(Query(frozenset([JobState.RUNNING]), id_prefix="0")))

    def test_window(self) -> None:
        """Created at `since` or later and before `until`, whether the window has few jobs or many."""
        for narrow in (10_000, 1):
            with mock.patch("txworker.store.records.NARROW", narrow):
                self.assertEqual([4, 3, 2], self.page(Query(since=102.0, until=105.0)))
                self.assertEqual([6, 5], self.page(Query(since=104.5)))
                self.assertEqual([2, 1], self.page(Query(until=103.0)))
                self.assertEqual([3], self.page(Query(since=102.0, until=105.0), before=4, most=1))
                self.assertEqual([5, 3], self.page(Query(frozenset([JobState.FAILED]), since=102.0)))
                self.assertEqual([5, 3], self.page(Query(labels={"odd": "yes"}, since=102.0, until=106.0)))
                self.assertEqual([], self.page(Query(since=200.0)))
                self.assertEqual([], self.page(Query(since=103.5, until=103.6)))

    def test_clock_set_back(self) -> None:
        """Times of creation need not be in the order of numbers."""
        with closing(connect(self.path)) as connection:
            self.add(connection, 7, "aa", created_at=102.5)
        for narrow in (10_000, 1):
            with mock.patch("txworker.store.records.NARROW", narrow):
                self.assertEqual([7, 2], self.page(Query(since=102.0, until=103.0)))
                self.assertEqual([2], self.page(Query(since=102.0, until=103.0), before=7))

    def test_prefix_by_index(self) -> None:
        """An id is looked for in the range of the index of ids; no table is read from end to end."""
        plan = self.plan(lambda: self.page(Query(id_prefix="00")))
        self.assertIn("SEARCH jobs USING COVERING INDEX sqlite_autoindex_jobs_1 (id>? AND id<?)", plan)
        self.assertEqual([], [step for step in plan if "SCAN" in step or "TEMP B-TREE" in step])

    def test_window_by_index(self) -> None:
        """A narrow window is looked for in the index of times, and counted there."""
        by_time = "SEARCH jobs USING INDEX jobs_by_creation (created_at>? AND created_at<?)"
        plan = self.plan(lambda: self.page(Query(since=102.0, until=105.0)))
        self.assertIn(by_time, plan)
        self.assertEqual([], [step for step in plan if "SCAN jobs" in step or "TEMP B-TREE" in step])

    def test_wide_window_in_order(self) -> None:
        """A wide window is read as the plain list is, from the newest job on: nothing is sorted."""
        with mock.patch("txworker.store.records.NARROW", 1):
            for query in (Query(since=101.0), Query(frozenset([JobState.FAILED]), since=101.0)):
                plan = self.plan(lambda query=query: self.page(query))  # type: ignore[misc]
                self.assertEqual([], [step for step in plan if "jobs_by_creation" in step or "TEMP B-TREE" in step])

    def test_plain_list_as_before(self) -> None:
        """The index of times serves nothing but windows."""
        for query in (Query(), Query(frozenset([JobState.FAILED, JobState.LOST])), Query(labels={"odd": "yes"})):
            plan = self.plan(lambda query=query: self.page(query))  # type: ignore[misc]
            self.assertEqual([], [step for step in plan if "jobs_by_creation" in step or "TEMP B-TREE" in step])
