"""Checkpoints when the disk refuses, with the real thread and a fake connection."""

from __future__ import annotations

import queue
import sqlite3
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from txworker.store.checkpoints import COMMITS_PER_CHECKPOINT, Checkpoints

LIMIT = 20.0


class CheckpointsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.refusals: list[sqlite3.Error] = []
        self.opened: list[Connection] = []
        self.tried: queue.Queue[Connection] = queue.Queue()
        self.checkpoints = Checkpoints(self.connect)
        self.checkpoints.start()
        self.addCleanup(self.checkpoints.close)

    def connect(self) -> Any:
        if self.refusals:
            raise self.refusals.pop()
        self.opened.append(Connection(self))
        return self.opened[-1]

    def checkpoint(self) -> Connection:
        """Commit until a checkpoint is made; returns the connection that makes it."""
        for _ in range(COMMITS_PER_CHECKPOINT):
            self.checkpoints.committed()
        used = self.tried.get(timeout=LIMIT)
        with self.checkpoints.paused():  # waits for its end
            pass
        return used

    def test_refused(self) -> None:
        """After a checkpoint that failed none is under way, as after one that was made."""
        self.checkpoint()
        self.assertEqual(2, self.checkpoints.steps)
        self.opened[-1].refusals.append(sqlite3.OperationalError("database or disk is full"))
        self.checkpoint()
        self.assertEqual(4, self.checkpoints.steps)
        self.checkpoint()
        self.assertEqual(6, self.checkpoints.steps)

    def test_pause(self) -> None:
        """In a pause there is no connection, and after it a new one."""
        with self.checkpoints.paused():
            self.assertEqual([True], [connection.closed for connection in self.opened])
        self.assertIs(self.opened[1], self.checkpoint())

    def test_not_opened_after_a_pause(self) -> None:
        """If the file cannot be opened after a pause, that is no error, and the next checkpoint opens it."""
        self.refusals.append(sqlite3.OperationalError("unable to open database file"))
        with self.checkpoints.paused():
            pass
        self.assertEqual(1, len(self.opened))
        used = self.checkpoint()
        self.assertIs(self.opened[1], used)


class Connection:
    """A connection that refuses a checkpoint when the test says so."""

    def __init__(self, test: CheckpointsTests) -> None:
        self._test = test
        self.refusals: list[sqlite3.Error] = []
        self.closed = False

    def execute(self, sql: str) -> None:
        self._test.assertFalse(self.closed)
        self._test.tried.put(self)
        if self.refusals:
            raise self.refusals.pop()

    def close(self) -> None:
        self.closed = True
