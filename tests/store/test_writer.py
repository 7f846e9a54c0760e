"""Batches, and what happens to each write when the disk refuses: the same promises for both writers."""

from __future__ import annotations

import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.store.writer_promises import FULL, LIMIT, Connection, WriterTests
from txworker.jobs.errors import StoreBroken, StoreFull
from txworker.store.batches import RETRY_SECONDS, Kind
from txworker.store.writer import ReactorWriter, ThreadWriter


class _Base(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        self.connection = Connection(self.path)
        self.connection.real.execute("CREATE TABLE words (word TEXT)")
        self.troubles: list[str] = []
        self.has_room = True
        self.looks = 0
        self.cannot_open: sqlite3.Error | None = None

    def room(self) -> bool:
        self.looks += 1
        return self.has_room

    def connected(self) -> Any:
        if self.cannot_open is not None:
            raise self.cannot_open
        return self.connection


class ReactorWriterTests(WriterTests, _Base):
    def setUp(self) -> None:
        super().setUp()
        self.clock = Clock()
        self.committed = []
        self.writer = ReactorWriter(self.connected, self.clock, self.heard, self.committed.append, self.room)
        self.addCleanup(self.writer.close)

    def run_until(self, true: Callable[[], Any]) -> None:
        for _ in range(100):
            if true():
                return
            self.clock.advance(RETRY_SECONDS)
        raise AssertionError("still not so")

    def test_not_urgent(self) -> None:
        """A write that is not urgent waits briefly for others, and delays no urgent one."""
        slow = self.writer.put(lambda connection: self.inserted(connection, "slow"), Kind(urgent=False))
        self.clock.advance(0)
        self.assertNoResult(slow)
        fast = self.insert("fast")
        self.clock.advance(0)
        self.assertEqual(["slow", "fast"], [self.successResultOf(slow), self.successResultOf(fast)])
        alone = self.writer.put(lambda connection: self.inserted(connection, "alone"), Kind(urgent=False))
        self.clock.advance(0.01)
        self.successResultOf(alone)

    def test_no_timer_left(self) -> None:
        """No timer is left when there is nothing to do, or after closing."""
        self.settled(self.insert("a"))
        self.assertEqual([], self.clock.getDelayedCalls())
        self.refuse(FULL)
        answer = self.insert("b")
        self.clock.advance(0)
        self.writer.close()
        self.failureResultOf(answer, StoreFull)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_put_while_closing(self) -> None:
        """A write that is requested in the callback of the last write fails."""
        answers: list[Deferred[str]] = []
        self.insert("a").addCallback(lambda _: answers.append(self.insert("b")))
        self.writer.close()
        self.failureResultOf(answers[0], StoreBroken)


class ThreadWriterTests(WriterTests, _Base):
    def setUp(self) -> None:
        super().setUp()
        self.calls: queue.Queue[tuple[Any, ...]] = queue.Queue()
        self.committed = []
        self.writer = ThreadWriter(self.connected, self.call_from_thread, self.heard, self.committed.append, self.room)
        self.addCleanup(lambda: self.settled(self.writer.close()))
        self.held = threading.Event()

    def call_from_thread(self, *call: Any) -> None:
        self.calls.put(call)

    def run_until(self, true: Callable[[], Any]) -> None:
        end = time.monotonic() + LIMIT
        while not true():
            if time.monotonic() > end:
                raise AssertionError("still not so")
            try:
                call, *arguments = self.calls.get(timeout=0.01)
            except queue.Empty:
                continue
            call(*arguments)

    def hold(self) -> None:
        """The thread is busy with one operation, which was taken alone."""
        begun = threading.Event()

        def wait(connection: sqlite3.Connection) -> None:
            if not begun.is_set():  # it may be tried again
                begun.set()
                self.held.wait(LIMIT)

        self.held.clear()
        self.writer.put(wait)
        begun.wait(LIMIT)

    def release(self) -> None:
        self.held.set()

    def test_one_transaction(self) -> None:
        """As above; the operation that blocked the thread had its own transaction."""
        self.hold()
        answers = [self.insert(str(number)) for number in range(100)]
        self.release()
        self.settled(*answers)
        self.assertEqual([str(number) for number in range(100)], self.words())
        self.assertEqual(2, self.connection.commits)
