"""What ports.Store promises, held against every store there is: the real one in both its ways, and the one of tests."""

from __future__ import annotations

import contextlib
import os
import queue
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.support.memory_store import MemoryStore
from txworker.jobs import Exit, Exited, Job, JobSpec, JobState, Query, Retention, Started, after
from txworker.jobs.errors import CallerGone, StoreBroken
from txworker.jobs.query import BEYOND_NEWEST
from txworker.ports import Store
from txworker.store import files, reader
from txworker.store import jobs as store_jobs
from txworker.store.errors import InUse, Unusable
from txworker.store.files import connect
from txworker.store.jobs import FILE_NAME, JobStore

T = TypeVar("T")

LIMIT = 20.0
DAY = 86_400.0
TRUE = JobSpec("true")
ALL = Query()


class Reactor(Clock):
    """Time that stands still, and calls from threads that the test makes."""

    def __init__(self) -> None:
        super().__init__()
        self.crossings: queue.Queue[tuple[Any, ...]] = queue.Queue()

    def callFromThread(self, callable: Callable[..., Any], *args: Any) -> None:
        self.crossings.put((callable, *args))

    def run_until(self, true: Callable[[], object]) -> None:
        end = time.monotonic() + LIMIT
        while not true():
            assert time.monotonic() < end
            self.advance(1)
            with contextlib.suppress(queue.Empty):
                while not true():
                    call, *arguments = self.crossings.get(timeout=0.01)
                    call(*arguments)


class StoreTests:
    """The promises. Revisions are counted here as the worker counts them."""

    assertEqual: Any
    assertIsNone: Any
    assertTrue: Any
    store: Store
    revision = 0

    def result(self, answer: Deferred[T]) -> T:
        raise NotImplementedError

    def next_revision(self) -> int:
        self.revision += 1
        return self.revision

    def a_job(self, number: int, spec: JobSpec = TRUE) -> Job:
        """Added and started."""
        job = Job(f"job-{number}", spec, 100.0 + number, number, revision=self.next_revision())
        self.assertEqual(job, self.result(self.store.add(job)))
        job = after(job, Started(200.0 + number, 1000 + number, 5), self.next_revision())
        self.result(self.store.save(job))
        return job

    def end(self, job: Job, exit_code: int = 0, at: float = 300.0, output_bytes: int = 0) -> Job:
        job = after(job, Exited(at, Exit(exit_code), output_bytes), self.next_revision())
        self.result(self.store.save(job))
        return job

    def ended(self, number: int, spec: JobSpec = TRUE, **more: Any) -> Job:
        return self.end(self.a_job(number, spec), **more)

    def page(self, query: Query = ALL, before: int = BEYOND_NEWEST, most: int = 100) -> list[int]:
        return [job.number for job in self.store.finished_page(query, before, most)]

    def expired(self, retention: Retention, now: float = 300.0, most: int = 100) -> list[int]:
        return [job.number for job in self.store.expired(retention, now, most)]

    def test_add_save_get(self) -> None:
        """A job is there from the time it was added, in the record that was saved last."""
        self.assertIsNone(self.store.get("job-1"))
        job = Job("job-1", TRUE, 1.0, 1, revision=1)
        self.result(self.store.add(job))
        self.assertEqual(job, self.store.get("job-1"))
        job = after(job, Started(2.0, 42), 2)
        self.result(self.store.save(job))
        self.assertEqual(job, self.store.get("job-1"))

    def test_drop(self) -> None:
        """A job that never came to be leaves nothing: not its request id, not its labels."""
        job = self.a_job(1, JobSpec("true", request_id="r", labels={"a": "1"}))
        self.result(self.store.drop(job))
        self.assertIsNone(self.store.get(job.id))
        self.assertIsNone(self.store.with_request_id("r"))
        self.assertIsNone(self.store.removed_at(job.id))
        again = self.ended(2, JobSpec("true", request_id="r", labels={"a": "1"}))
        self.assertEqual(([2], again), (self.page(Query(labels={"a": "1"})), self.store.with_request_id("r")))

    def test_request_id(self) -> None:
        """The second order with a request id is not kept; its answer is the first, as it stands."""
        first = self.a_job(1, JobSpec("true", request_id="r"))
        second = Job("job-2", JobSpec("false", request_id="r"), 1.0, 2, revision=self.next_revision())
        self.assertEqual(first, self.result(self.store.add(second)))
        self.assertIsNone(self.store.get("job-2"))
        self.assertEqual(first, self.store.with_request_id("r"))
        self.assertIsNone(self.store.with_request_id("another"))

    def test_no_request_id(self) -> None:
        """Orders without one have nothing in common."""
        for number in (1, 2, 3):
            self.ended(number)
        self.assertEqual([3, 2, 1], self.page())

    def test_newest_with_path(self) -> None:
        """Of the finished jobs with that path the newest; those without a path are nobody's."""
        for number, path in enumerate(["a", "b", "a", ""], 1):
            self.ended(number, JobSpec("true", path))
        self.a_job(5, JobSpec("true", "a"))
        found = self.store.newest_with_path("a")
        self.assertEqual(3, found.number if found else None)
        self.assertIsNone(self.store.newest_with_path("c"))

    def test_unfinished(self) -> None:
        """What is not done, lowest number first."""
        jobs = [self.a_job(number) for number in (3, 1, 2)]
        self.end(jobs[1])
        self.assertEqual(["job-2", "job-3"], [job.id for job in self.store.unfinished()])

    def test_last(self) -> None:
        """The highest number and revision, whether the job is done or not, and the number also when it was removed."""
        self.assertEqual((0, 0), self.store.last())
        first, second = self.a_job(1), self.a_job(2)
        self.assertEqual((2, self.revision), self.store.last())
        self.end(first)
        second = self.end(second)
        self.assertEqual((2, self.revision), self.store.last())
        self.result(self.store.remove([second], 1.0))
        self.assertEqual(2, self.store.last()[0])

    def test_removed(self) -> None:
        """A removed job is gone, and is remembered with the time; its request id is free again."""
        job = self.ended(1, JobSpec("true", request_id="r", labels={"a": "1"}))
        self.result(self.store.remove([job], 77.5))
        self.assertEqual((None, 77.5), (self.store.get(job.id), self.store.removed_at(job.id)))
        self.assertEqual(([], []), (self.page(), self.page(Query(labels={"a": "1"}))))
        self.assertIsNone(self.store.with_request_id("r"))
        self.assertIsNone(self.store.removed_at("nobody"))

    def test_pages(self) -> None:
        """Highest number first, below the one that is given, so many at most, whatever came and went meanwhile."""
        jobs = [self.ended(number) for number in range(1, 8)]
        self.assertEqual([7, 6, 5], self.page(most=3))
        self.ended(8)
        self.result(self.store.remove([jobs[3]], 1.0))
        self.assertEqual([3, 2, 1], self.page(before=5, most=3))
        self.assertEqual([], self.page(before=1))

    def test_running_are_on_no_page(self) -> None:
        """Pages here are of finished jobs; those that run are in the worker."""
        self.a_job(1)
        self.assertEqual(([], []), (self.page(), self.page(Query(frozenset([JobState.RUNNING])))))

    def test_states(self) -> None:
        """Any of the states; a page of several is in one order."""
        for number in range(1, 7):
            self.ended(number, exit_code=number % 2)
        lost = replace(self.a_job(7), state=JobState.LOST, revision=self.next_revision(), finished_at=1.0)
        self.result(self.store.save(lost))
        failed, lost_too = frozenset([JobState.FAILED]), frozenset([JobState.FAILED, JobState.LOST])
        self.assertEqual([5, 3, 1], self.page(Query(failed)))
        self.assertEqual([7, 5], self.page(Query(lost_too), most=2))
        self.assertEqual([3, 1], self.page(Query(lost_too), before=5))

    def test_labels(self) -> None:
        """All of the labels, exactly, with any of the states."""
        table: list[dict[str, str]] = [{"a": "1"}, {"a": "1", "b": "2"}, {"a": "2", "b": "2"}, {}, {"a": "1", "b": "2"}]
        for number, labels in enumerate(table, 1):
            self.ended(number, JobSpec("true", labels=labels), exit_code=number % 2)
        self.assertEqual([5, 2, 1], self.page(Query(labels={"a": "1"})))
        self.assertEqual([5, 2], self.page(Query(labels={"a": "1", "b": "2"})))
        self.assertEqual([2], self.page(Query(labels={"a": "1", "b": "2"}), before=5))
        self.assertEqual([5, 1], self.page(Query(frozenset([JobState.FAILED]), {"a": "1"})))
        self.assertEqual([5], self.page(Query(labels={"a": "1"}), most=1))
        self.assertEqual([], self.page(Query(labels={"a": "1", "c": "3"})))
        self.assertEqual([], self.page(Query(frozenset([JobState.RUNNING]), {"a": "1"})))

    def test_long_order(self) -> None:
        """Of a long order records hold the beginning, whoever asks; all of it can be had, and all of it goes."""
        labels = {f"label-{number}": str(number) * 100 for number in range(60)}
        spec = JobSpec("true", "p" * 9_000, ("x" * 100_000,), {"A": "z" * 9_000}, request_id="r", labels=labels)
        running, brief = self.a_job(1, spec), spec.shortened()
        again = Job("job-2", spec, 1.0, 2, revision=self.next_revision())
        self.assertEqual(brief, self.result(self.store.add(again)).spec)
        self.assertEqual([brief], [job.spec for job in self.store.unfinished()])
        job = self.end(running)
        meant = Query(labels={"label-1": "1" * 100, "label-59": "59" * 100})
        found = [
            self.store.get(job.id),
            self.store.with_request_id("r"),
            self.store.newest_with_path(spec.path),
            *self.store.finished_page(meant, BEYOND_NEWEST, 10),
            *self.store.finished_between(0, job.revision, 10, meant.labels),
            *self.store.expired(Retention(jobs=1, output_bytes=1), 300.0, 10),
        ]
        self.assertEqual([brief] * 5, [one.spec for one in found if one])
        self.assertIsNone(self.store.newest_with_path(brief.path))
        whole = self.store.full_spec(job.id)
        assert whole is not None
        self.assertEqual("", whole.difference(spec))
        kept = self.store.get(job.id)
        assert kept is not None
        self.result(self.store.remove([kept], 1.0))
        self.assertEqual((None, None), (self.store.full_spec(job.id), self.store.full_spec("nobody")))
        self.assertEqual([], self.page(meant))
        self.result(self.store.drop(self.a_job(3, spec)))
        self.assertIsNone(self.store.full_spec("job-3"))

    def test_short_order(self) -> None:
        """Of a short one there is nothing more than its record has."""
        job = self.a_job(1, JobSpec("true", labels={"a": "1"}))
        self.assertEqual(job.spec, self.store.full_spec(job.id))

    def test_finished_between(self) -> None:
        """Ends with a revision beyond the one and up to the other, in their order; nothing that still runs."""
        running = [self.a_job(number) for number in range(1, 6)]
        ends = [self.end(job).revision for job in running[:4]]

        def between(beyond: int, upto: int, most: int = 100) -> list[int]:
            return [job.revision for job in self.store.finished_between(beyond, upto, most)]

        self.assertEqual(ends, between(0, self.revision))
        self.assertEqual(ends[1:3], between(ends[0], ends[2]))
        self.assertEqual(ends[:2], between(0, self.revision, 2))
        self.assertEqual([], between(ends[3], self.revision + 10))
        mine = self.ended(6, JobSpec("true", labels={"a": "1", "b": "2"}))
        self.ended(7, JobSpec("true", labels={"a": "1"}))
        for labels, expected in (({"a": "1", "b": "2"}, [mine.revision]), ({"a": "2"}, [])):
            found = self.store.finished_between(0, self.revision, 100, labels)
            self.assertEqual(expected, [job.revision for job in found])

    def test_expired_by_age(self) -> None:
        """Jobs that ended longer ago than so many days; the first to have ended first, so many at most."""
        for number, days in enumerate([1, 2, 3, 4], 1):
            self.ended(number, at=days * DAY)
        self.a_job(5)
        self.assertEqual([1, 2], self.expired(Retention(days=2), now=4.5 * DAY))
        self.assertEqual([1], self.expired(Retention(days=2), now=4.5 * DAY, most=1))
        self.assertEqual([], self.expired(Retention(days=10), now=4.5 * DAY))
        self.assertEqual([1], self.expired(Retention(days=0.25), now=1.5 * DAY))

    def test_expired_by_count(self) -> None:
        """As many as are too many; those that run do not count. Whoever ended first goes first, not who began first."""
        running = [self.a_job(number) for number in range(1, 6)]
        for job in reversed(running[:4]):
            self.end(job)
        self.assertEqual([4, 3], self.expired(Retention(jobs=2)))
        self.assertEqual([], self.expired(Retention(jobs=4)))

    def test_expired_by_bytes(self) -> None:
        """As many as it takes for the rest to be no more than so many bytes."""
        for number, output_bytes in enumerate([100, 10, 50, 40], 1):
            self.ended(number, output_bytes=output_bytes)
        self.assertEqual([], self.expired(Retention(output_bytes=200)))
        self.assertEqual([1], self.expired(Retention(output_bytes=199)))
        self.assertEqual([1, 2], self.expired(Retention(output_bytes=99)))
        self.assertEqual([1, 2, 3, 4], self.expired(Retention(output_bytes=1)))

    def test_expired_by_any(self) -> None:
        """The limits hold together: whatever one of them wants removed, is."""
        for number in range(1, 5):
            self.ended(number, at=number * DAY, output_bytes=10)
        self.assertEqual([1, 2], self.expired(Retention(days=100, jobs=2, output_bytes=1000), now=5 * DAY))
        self.assertEqual([1, 2, 3], self.expired(Retention(days=1.5, jobs=2), now=5 * DAY))
        self.assertEqual([], self.expired(Retention(), now=5000 * DAY))


class MemoryStoreTests(StoreTests, SynchronousTestCase):
    def setUp(self) -> None:
        self.store = MemoryStore()

    def result(self, answer: Deferred[T]) -> T:
        return self.successResultOf(answer)


class TurnsStoreTests(StoreTests, SynchronousTestCase):
    """The real one, as it is by default."""

    fsync = False

    def setUp(self) -> None:
        self.place = Path(self.mktemp())
        self.reactor = Reactor()
        self.store: JobStore = self.opened()
        self.addCleanup(lambda: self.result(self.store.close()))

    def opened(self) -> JobStore:
        return JobStore(self.place, self.fsync, self.reactor, lambda trouble: self.fail(str(trouble)))

    def result(self, answer: Deferred[T]) -> T:
        self.reactor.run_until(lambda: answer.called)
        return self.successResultOf(answer)

    def run_until(self, true: Callable[[], object]) -> None:
        self.reactor.run_until(true)

    def closed(self) -> None:
        """Closed, with every connection, and all of it in the file."""
        self.result(self.store.close())
        self.run_until(lambda: not any(str(self.place) in link for link in self.open_files()))
        connect(self.place / FILE_NAME).close()

    def open_files(self) -> Iterator[str]:
        for fd in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                yield os.readlink(f"/proc/self/fd/{fd}")

    def reopened(self) -> None:
        self.closed()
        self.store = self.opened()

    def test_nobody_waits(self) -> None:
        """Pages and walks are given up when what is called meanwhile says so, whatever they look for."""
        self.patch(reader, "_LOOK_STEPS", 1)
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
        """Before the reactor runs, what was put can be waited for."""
        job = self.a_job(1)
        ended = after(job, Exited(1.0, Exit(0), 3), self.next_revision())
        answer = self.store.save(ended)
        self.store.settle()
        self.assertEqual(ended, self.store.get(job.id))
        self.result(answer)

    def test_one_worker(self) -> None:
        """A second store in the same directory is refused; closing the first makes room."""
        self.assertRaises(InUse, self.opened)
        self.reopened()

    def test_forgot(self) -> None:
        """Whether what an earlier worker knew is gone: it is when the file was damaged, emptied or taken away."""
        self.assertEqual(False, self.store.forgot)
        self.ended(1)
        self.reopened()
        self.assertEqual(False, self.store.forgot)
        file = self.place / FILE_NAME
        for spoil in (lambda: file.write_bytes(b"garbage" * 99), lambda: file.write_bytes(b""), file.unlink):
            self.closed()
            spoil()
            self.store = self.opened()
            self.assertEqual(True, self.store.forgot)

    def test_damaged_page(self) -> None:
        """A page of a large file that is found to be damaged later on: the next start looks through all of it."""
        self.patch(files, "_LOOKED_THROUGH_BYTES", 0)
        for number in range(1, 60):
            self.ended(number, JobSpec("true", "x" * 500))
        self.closed()
        file = self.place / FILE_NAME
        whole = file.read_bytes()
        file.write_bytes(whole[: 12 * 4096] + b"x" * (len(whole) - 12 * 4096))
        self.store = self.opened()
        self.assertEqual(False, self.store.forgot)
        self.assertRaises(StoreBroken, self.page)
        self.closed()
        self.store = self.opened()
        self.assertEqual((True, []), (self.store.forgot, self.page()))
        self.reopened()
        self.assertEqual(False, self.store.forgot)

    def test_cannot_be_used(self) -> None:
        """A directory that cannot be one is refused in one sentence that names it."""
        place = Path(self.mktemp())
        place.write_text("a file")
        self.place = place
        self.assertIn(str(place), str(self.assertRaises(Unusable, self.opened)))

    def test_removed_are_forgotten_in_the_end(self) -> None:
        """The memory of removed jobs is bounded; the newest are told from those that never were."""
        self.patch(store_jobs, "REMEMBERED", 2)
        jobs = [self.ended(number) for number in range(1, 6)]
        for job in jobs:
            self.result(self.store.remove([job], 1.0))
        self.assertEqual([None, None, 1.0, 1.0, 1.0], [self.store.removed_at(job.id) for job in jobs])

    def test_locked_by_another_program(self) -> None:
        """While another program locks the file nothing new is taken, and what is promised waits."""
        self.patch(files, "_BUSY_SECONDS", 0.1)
        self.reopened()
        job = self.a_job(1)
        troubles: list[StoreBroken | None] = []
        self.patch(self.store, "_troubled", troubles.append)
        with closing(sqlite3.connect(self.place / FILE_NAME, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            ended = after(job, Exited(1.0, Exit(0), 3), self.next_revision())
            answer = self.store.save(ended)
            self.run_until(lambda: troubles)
            self.assertNoResult(answer)
            self.assertIn("locked", str(troubles[0]))
        self.result(answer)
        self.assertEqual((ended, None), (self.store.get(job.id), troubles[-1]))


class ThreadedStoreTests(TurnsStoreTests):
    """The real one, as it is when what is written shall survive the machine."""

    fsync = True
