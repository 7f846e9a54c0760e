"""Queries row by row, which end when no caller waits."""

from __future__ import annotations

import sqlite3

from twisted.trial.unittest import SynchronousTestCase

from txworker.jobs.errors import CallerGone, StoreBroken
from txworker.store import reader
from txworker.store.reader import FilesReplaced, Reader

COUNT = "WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT n FROM c "
"""Endless."""


class ReaderTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.made: list[sqlite3.Connection] = []
        self.troubles: list[StoreBroken | None] = []
        self.schema = ""
        self.reader = Reader(self.connect, self.troubles.append)
        self.addCleanup(self.reader.close)

    def connect(self) -> sqlite3.Connection:
        self.made.append(sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False))
        self.made[-1].execute(self.schema)
        return self.made[-1]

    def test_row_by_row(self) -> None:
        """Rows are read on demand, and closing the generator frees the connection."""
        rows = self.reader.iterate(COUNT)
        self.assertEqual([(1,), (2,)], [next(rows), next(rows)])
        rows.close()
        self.assertEqual([(1,)], self.reader.rows("SELECT 1"))
        self.assertEqual(1, len(self.made))

    def test_given_up(self) -> None:
        """What check() raises ends the search for a row that may never come. No trouble is reported."""
        looks: list[None] = []

        def check() -> None:
            looks.append(None)
            if len(looks) == 3:
                raise CallerGone

        rows = self.reader.iterate(f"{COUNT} WHERE n < 0", (), check)
        self.assertRaises(CallerGone, next, rows)
        self.assertEqual((3, []), (len(looks), self.troubles))
        self.assertEqual([(1,)], self.reader.rows("SELECT 1"))

    def test_check_is_for_one_question(self) -> None:
        """check() does not outlive its query on the connection."""
        looks: list[None] = []
        rows = self.reader.iterate(f"{COUNT} WHERE n % 100000 = 0", (), lambda: looks.append(None))
        self.assertEqual((100_000,), next(rows))
        rows.close()
        before = len(looks)
        self.assertEqual([(300_000,)], self.reader.rows(f"{COUNT} WHERE n % 100000 = 0 LIMIT 1 OFFSET 2"))
        self.assertEqual((before, 1), (len(looks), len(self.made)))
        self.assertGreater(before, 3)

    def test_broken(self) -> None:
        """An error of SQLite's becomes StoreBroken and is reported, and the connection is closed."""
        self.assertRaises(StoreBroken, list, self.reader.iterate("SELECT * FROM nowhere"))
        self.assertEqual(1, len(self.troubles))
        self.assertEqual([(1,)], self.reader.rows("SELECT 1"))
        self.assertEqual(2, len(self.made))

    def test_probe(self) -> None:
        """It makes the query that failed first again, over a connection of its own, and reports None once it works."""
        for table in ("jobs", "labels"):
            self.assertRaises(StoreBroken, self.reader.rows, f"SELECT * FROM {table} WHERE number = ?", [5])
        self.assertEqual([(1,)], self.reader.rows("SELECT 1"))
        for schema, told in (("", 2), ("CREATE TABLE labels (number)", 2), ("CREATE TABLE jobs (number)", 3)):
            self.schema = schema
            self.reader.probe()
            self.assertEqual(told, len(self.troubles))
        self.assertIsNone(self.troubles[-1])
        self.assertRaises(StoreBroken, self.reader.rows, "SELECT * FROM labels")
        self.schema = "CREATE TABLE labels (number)"
        self.reader.probe()
        self.assertEqual((5, None), (len(self.troubles), self.troubles[-1]))

    def test_files_replaced(self) -> None:
        """That no connection can be opened because the files were replaced is not reported: others tell of it."""
        self.patch(reader, "_CONNECTION_SECONDS", 0.0)

        def replaced() -> sqlite3.Connection:
            raise FilesReplaced

        self.assertRaises(StoreBroken, Reader(replaced, self.troubles.append).rows, "SELECT 1")
        self.assertEqual([], self.troubles)
