"""The store of jobs with either writer and the in-memory store: the promises of ports.Store, and what the file adds."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.store.fake_reactor import LIMIT, FakeReactor
from tests.store.open_files import any_open_below
from tests.store.store_promises import ALL, StoreTests
from tests.support.memory_store import MemoryStore
from txworker.jobs import Exit, Exited, Job, JobSpec, JobState, Query, after
from txworker.jobs.errors import CallerGone, StoreBroken
from txworker.jobs.query import BEYOND_NEWEST
from txworker.store import files, reader
from txworker.store import jobs as store_jobs
from txworker.store.errors import InUse, Unusable
from txworker.store.files import connect
from txworker.store.jobs import FILE_NAME, JobStore

T = TypeVar("T")


class MemoryStoreTests(StoreTests, SynchronousTestCase):
    def setUp(self) -> None:
        self.store = MemoryStore()

    def result(self, answer: Deferred[T]) -> T:
        return self.successResultOf(answer)


class ReactorWriterStoreTests(StoreTests, SynchronousTestCase):
    """The real store as by default."""

    fsync = False

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.reactor = FakeReactor()
        self.troubled: Callable[[StoreBroken | None], None] = lambda trouble: self.fail(str(trouble))
        self.store: JobStore = self.opened()
        self.addCleanup(lambda: self.result(self.store.close()))

    def opened(self) -> JobStore:
        return JobStore(self.directory, self.fsync, self.reactor, lambda trouble: self.troubled(trouble))

    def result(self, answer: Deferred[T]) -> T:
        self.reactor.run_until(lambda: answer.called)
        return self.successResultOf(answer)

    def run_until(self, true: Callable[[], object]) -> None:
        self.reactor.run_until(true)

    def closed(self) -> None:
        """Close the store and wait until all connections are closed and the file has everything."""
        self.result(self.store.close())
        self.run_until(lambda: not any_open_below(self.directory))
        connect(self.directory / FILE_NAME).close()

    def reopened(self) -> None:
        self.closed()
        self.store = self.opened()

    def test_check_ends_queries(self) -> None:
        """What check() raises ends every kind of query, also while it finds nothing."""
        self.patch(reader, "CHECK_STEPS", 1)
        for number in range(1, 4):
            self.ended(number, JobSpec("true", labels={"a": "1"}))

        def gone() -> None:
            raise CallerGone

        queries = [ALL, Query(frozenset([JobState.FAILED, JobState.LOST])), Query(labels={"a": "1", "b": "2"})]
        jobs = [self.store.finished_page(query, BEYOND_NEWEST, 10, gone) for query in queries]
        for walk in [*jobs, self.store.finished_between(0, 99, 10, {"b": "2"}, gone)]:
            self.assertRaises(CallerGone, list, walk)
        self.assertEqual([3, 2, 1], self.page())

    def test_survives(self) -> None:
        """Everything is there when the store is opened again."""
        done, running = self.ended(1, JobSpec("true", request_id="r", labels={"a": "1"})), self.a_job(2)
        removed = self.ended(3)
        self.result(self.store.remove([removed], 5.5))
        self.reopened()
        self.assertEqual((done, running), (self.store.get(done.id), self.store.get(running.id)))
        self.assertEqual((done, [running]), (self.store.with_request_id("r"), self.store.unfinished()))
        self.assertEqual((5.5, 3), (self.store.removed_at(removed.id), self.store.last()[0]))
        self.assertEqual([1], self.page(Query(labels={"a": "1"})))

    def test_settle(self) -> None:
        """settle() writes everything before the reactor runs."""
        job = self.a_job(1)
        ended = after(job, Exited(1.0, Exit(0), 3), self.next_revision())
        answer = self.store.save(ended)
        self.store.settle()
        self.assertEqual(ended, self.store.get(job.id))
        self.result(answer)

    def test_one_worker(self) -> None:
        """A second store in the same directory is refused until the first is closed."""
        self.assertRaises(InUse, self.opened)
        self.reopened()

    def test_forgot(self) -> None:
        """`forgot` is true when the file was damaged, emptied or removed."""
        self.assertEqual(False, self.store.forgot)
        self.ended(1)
        self.reopened()
        self.assertEqual(False, self.store.forgot)
        file = self.directory / FILE_NAME
        for spoil in (lambda: file.write_bytes(b"garbage" * 99), lambda: file.write_bytes(b""), file.unlink):
            self.closed()
            spoil()
            self.store = self.opened()
            for _ in range(2):  # the first one ends before that is settled
                self.closed()
                self.store = self.opened()
                self.assertEqual(True, self.store.forgot)
            self.store.forgot_settled()
            self.reopened()
            self.assertEqual(False, self.store.forgot)

    def test_damaged_page(self) -> None:
        """When a damaged page of a large file is read, the next start checks the whole file."""
        self.patch(files, "FULL_CHECK_BYTES", 0)
        for number in range(1, 60):
            self.ended(number, JobSpec("true", "x" * 500))
        self.closed()
        file = self.directory / FILE_NAME
        whole = file.read_bytes()
        file.write_bytes(whole[: 12 * 4096] + b"x" * (len(whole) - 12 * 4096))
        self.store = self.opened()
        self.assertEqual(False, self.store.forgot)
        troubles: list[StoreBroken | None] = []
        self.troubled = troubles.append
        self.assertRaises(StoreBroken, self.page)
        self.run_until(lambda: troubles)
        self.closed()
        self.store = self.opened()
        self.assertEqual((True, []), (self.store.forgot, self.page()))
        self.store.forgot_settled()
        self.reopened()
        self.assertEqual(False, self.store.forgot)

    def test_cannot_be_used(self) -> None:
        """A path that cannot be a directory is refused in a sentence that names it."""
        directory = Path(self.mktemp())
        directory.write_text("a file")
        self.directory = directory
        self.assertIn(str(directory), str(self.assertRaises(Unusable, self.opened)))

    def test_removed_are_forgotten_in_the_end(self) -> None:
        """The number of remembered removed jobs is limited; the newest are kept."""
        self.patch(store_jobs, "MAX_REMEMBERED", 2)
        jobs = [self.ended(number) for number in range(1, 6)]
        for job in jobs:
            self.result(self.store.remove([job], 1.0))
        self.assertEqual([None, None, 1.0, 1.0, 1.0], [self.store.removed_at(job.id) for job in jobs])

    def test_locked_by_another_program(self) -> None:
        """While another program locks the file, new jobs are refused and ends wait."""
        self.patch(files, "BUSY_SECONDS", 0.1)
        self.reopened()
        job = self.a_job(1)
        troubles: list[StoreBroken | None] = []
        self.troubled = troubles.append
        with closing(sqlite3.connect(self.directory / FILE_NAME, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            ended = after(job, Exited(1.0, Exit(0), 3), self.next_revision())
            answer = self.store.save(ended)
            self.run_until(lambda: troubles)
            self.assertNoResult(answer)
            self.assertIn("locked", str(troubles[0]))
        self.result(answer)
        self.assertEqual((ended, None), (self.store.get(job.id), troubles[-1]))

    def test_cannot_be_read(self) -> None:
        """From a query that fails until the same one works, new jobs are refused; ends are written."""
        job = self.a_job(1)
        troubles: list[StoreBroken | None] = []
        self.troubled = troubles.append
        with closing(connect(self.directory / FILE_NAME)) as other:
            other.execute("ALTER TABLE removed RENAME TO hidden")
            for _ in range(2):
                self.assertRaises(StoreBroken, self.store.removed_at, "x")
                self.run_until(lambda: troubles)
                self.store.beat()
                self.store._probe.join(LIMIT)
            refused = self.failureResultOf(self.store.add(Job("job-2", JobSpec("true"), 1.0, 2)), StoreBroken)
            self.assertIn("no such table", str(refused.value))
            ended = self.end(job)
            self.assertEqual((ended, 1), (self.store.get(job.id), len(troubles)))
            other.execute("ALTER TABLE hidden RENAME TO removed")
        self.store.beat()
        self.run_until(lambda: troubles[-1] is None)
        self.a_job(2)
        self.assertEqual(2, len(troubles))


class ThreadWriterStoreTests(ReactorWriterStoreTests):
    """The real store with durability = "machine"."""

    fsync = True
