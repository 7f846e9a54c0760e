"""What ports.Store promises, as tests for every implementation of it. test_jobs.py runs them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

from twisted.internet.defer import Deferred

from txworker.jobs import Exit, Exited, Job, JobSpec, JobState, Query, Retention, Started, after
from txworker.jobs.query import BEYOND_NEWEST
from txworker.ports import Store

T = TypeVar("T")

DAY = 86_400.0
TRUE = JobSpec("true")
ALL = Query()


class StoreTests:
    """The promises. Counts revisions as the worker does."""

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
        """An added job is found with the record that was saved last."""
        self.assertIsNone(self.store.get("job-1"))
        job = Job("job-1", TRUE, 1.0, 1, revision=1)
        self.result(self.store.add(job))
        self.assertEqual(job, self.store.get("job-1"))
        job = after(job, Started(2.0, 42), 2)
        self.result(self.store.save(job))
        self.assertEqual(job, self.store.get("job-1"))

    def test_drop(self) -> None:
        """A dropped job leaves nothing: not its request id, not its labels."""
        job = self.a_job(1, JobSpec("true", request_id="r", labels={"a": "1"}))
        self.result(self.store.drop(job))
        self.assertIsNone(self.store.get(job.id))
        self.assertIsNone(self.store.with_request_id("r"))
        self.assertIsNone(self.store.removed_at(job.id))
        again = self.ended(2, JobSpec("true", request_id="r", labels={"a": "1"}))
        self.assertEqual(([2], again), (self.page(Query(labels={"a": "1"})), self.store.with_request_id("r")))

    def test_request_id(self) -> None:
        """A second job with the same request id is not kept; add() fires with the first one's present record."""
        first = self.a_job(1, JobSpec("true", request_id="r"))
        second = Job("job-2", JobSpec("false", request_id="r"), 1.0, 2, revision=self.next_revision())
        self.assertEqual(first, self.result(self.store.add(second)))
        self.assertIsNone(self.store.get("job-2"))
        self.assertEqual(first, self.store.with_request_id("r"))
        self.assertIsNone(self.store.with_request_id("another"))

    def test_no_request_id(self) -> None:
        """Jobs without a request id are independent."""
        for number in (1, 2, 3):
            self.ended(number)
        self.assertEqual([3, 2, 1], self.page())

    def test_newest_with_path(self) -> None:
        """The newest finished job with that path; an empty path matches none."""
        for number, path in enumerate(["a", "b", "a", ""], 1):
            self.ended(number, JobSpec("true", path))
        self.a_job(5, JobSpec("true", "a"))
        found = self.store.newest_with_path("a")
        self.assertEqual(3, found.number if found else None)
        self.assertIsNone(self.store.newest_with_path("c"))

    def test_unfinished(self) -> None:
        """Jobs that are not done, lowest number first."""
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
        """A removed job is remembered with the time. Its request id is free again."""
        job = self.ended(1, JobSpec("true", request_id="r", labels={"a": "1"}))
        self.result(self.store.remove([job], 77.5))
        self.assertEqual((None, 77.5), (self.store.get(job.id), self.store.removed_at(job.id)))
        self.assertEqual(([], []), (self.page(), self.page(Query(labels={"a": "1"}))))
        self.assertIsNone(self.store.with_request_id("r"))
        self.assertIsNone(self.store.removed_at("unknown"))

    def test_pages(self) -> None:
        """Highest number first, below the given one, at most so many, also when jobs come and go meanwhile."""
        jobs = [self.ended(number) for number in range(1, 8)]
        self.assertEqual([7, 6, 5], self.page(most=3))
        self.ended(8)
        self.result(self.store.remove([jobs[3]], 1.0))
        self.assertEqual([3, 2, 1], self.page(before=5, most=3))
        self.assertEqual([], self.page(before=1))

    def test_running_are_on_no_page(self) -> None:
        """Pages have finished jobs only; running ones are in the worker's memory."""
        self.a_job(1)
        self.assertEqual(([], []), (self.page(), self.page(Query(frozenset([JobState.RUNNING])))))

    def test_states(self) -> None:
        """Jobs in any of the states; a page with several states is sorted by number."""
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

    def test_long_spec(self) -> None:
        """Every query returns a shortened spec. full_spec() returns all of it, and removal deletes all of it."""
        labels = {f"label-{number}": str(number) * 100 for number in range(60)}
        spec = JobSpec("true", "p" * 9_000, ("x" * 100_000,), {"A": "z" * 9_000}, request_id="r", labels=labels)
        running, shortened = self.a_job(1, spec), spec.shortened()
        again = Job("job-2", spec, 1.0, 2, revision=self.next_revision())
        self.assertEqual(shortened, self.result(self.store.add(again)).spec)
        self.assertEqual([shortened], [job.spec for job in self.store.unfinished()])
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
        self.assertEqual([shortened] * 5, [one.spec for one in found if one])
        self.assertIsNone(self.store.newest_with_path(shortened.path))
        whole = self.store.full_spec(job.id)
        assert whole is not None
        self.assertEqual("", whole.difference(spec))
        kept = self.store.get(job.id)
        assert kept is not None
        self.result(self.store.remove([kept], 1.0))
        self.assertEqual((None, None), (self.store.full_spec(job.id), self.store.full_spec("unknown")))
        self.assertEqual([], self.page(meant))
        self.result(self.store.drop(self.a_job(3, spec)))
        self.assertIsNone(self.store.full_spec("job-3"))

    def test_short_spec(self) -> None:
        """The full spec of a short one is that of its record."""
        job = self.a_job(1, JobSpec("true", labels={"a": "1"}))
        self.assertEqual(job.spec, self.store.full_spec(job.id))

    def test_finished_between(self) -> None:
        """Jobs that ended with a revision beyond the one and up to the other, sorted by it; none that runs."""
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
        """Jobs that ended longer ago than so many days, sorted by their end, at most so many."""
        for number, days in enumerate([1, 2, 3, 4], 1):
            self.ended(number, at=days * DAY)
        self.a_job(5)
        self.assertEqual([1, 2], self.expired(Retention(days=2), now=4.5 * DAY))
        self.assertEqual([1], self.expired(Retention(days=2), now=4.5 * DAY, most=1))
        self.assertEqual([], self.expired(Retention(days=10), now=4.5 * DAY))
        self.assertEqual([1], self.expired(Retention(days=0.25), now=1.5 * DAY))

    def test_expired_by_count(self) -> None:
        """As many as are too many, without running ones. The job that ended first is removed first."""
        running = [self.a_job(number) for number in range(1, 6)]
        for job in reversed(running[:4]):
            self.end(job)
        self.assertEqual([4, 3], self.expired(Retention(jobs=2)))
        self.assertEqual([], self.expired(Retention(jobs=4)))

    def test_expired_by_bytes(self) -> None:
        """As many as it takes for the rest to have no more than so many bytes."""
        for number, output_bytes in enumerate([100, 10, 50, 40], 1):
            self.ended(number, output_bytes=output_bytes)
        self.assertEqual([], self.expired(Retention(output_bytes=200)))
        self.assertEqual([1], self.expired(Retention(output_bytes=199)))
        self.assertEqual([1, 2], self.expired(Retention(output_bytes=99)))
        self.assertEqual([1, 2, 3, 4], self.expired(Retention(output_bytes=1)))

    def test_expired_by_any(self) -> None:
        """A job is removed when any of the limits requires it."""
        for number in range(1, 5):
            self.ended(number, at=number * DAY, output_bytes=10)
        self.assertEqual([1, 2], self.expired(Retention(days=100, jobs=2, output_bytes=1000), now=5 * DAY))
        self.assertEqual([1, 2, 3], self.expired(Retention(days=1.5, jobs=2), now=5 * DAY))
        self.assertEqual([], self.expired(Retention(), now=5000 * DAY))
