"""Removing finished jobs, with a fake clock."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from typing import Any
from unittest import mock

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.support.fakes import FakeOutputDirectory
from tests.support.memory_store import MemoryStore
from tests.support.observer import RecordingObserver
from txworker.jobs import Job, JobSpec, JobState, Retention
from txworker.jobs.errors import NoSuchJob, StoreFull
from txworker.worker import retention
from txworker.worker.retention import PAUSE_SECONDS, RetentionService
from txworker.worker.viewers import Viewers

DAY = 86_400.0


class OutputDirectory(FakeOutputDirectory):
    """Its remove() raises `removal_refused` if the test sets it."""

    removal_refused: OSError | None = None

    def remove(self, job_ids: Iterable[str]) -> None:
        wanted = list(job_ids)
        if self.removal_refused is not None:
            raise self.removal_refused
        super().remove(wanted)


class RetentionTests(SynchronousTestCase):
    wall_stepped_by = 0.0

    def setUp(self) -> None:
        self.clock = Clock()
        self.store, self.outputs, self.viewers = MemoryStore(), OutputDirectory(), Viewers()
        self.observer = RecordingObserver()
        self.threads: list[tuple[Callable[[], Any], Deferred[Any]]] = []
        self.in_thread: Callable[[Callable[[], Any]], Deferred[Any]] = maybeDeferred
        for number in range(1, 6):
            job_id = f"job-{number}"
            job = Job(job_id, JobSpec("true"), 0.0, number, JobState.SUCCEEDED, number, finished_at=number * DAY)
            self.store.kept[job_id] = job
            self.outputs.create(job_id, False, 0)

    def a_service(self, wanted: Retention) -> RetentionService:
        service = RetentionService(
            self.clock,
            lambda call: self.in_thread(call),
            self.store,
            self.outputs,
            self.viewers,
            wanted,
            lambda: 6 * DAY + self.wall_stepped_by + self.clock.seconds(),
            lambda: 6 * DAY + self.clock.seconds(),
            self.observer,
        )
        service.startService()
        self.addCleanup(service.stopService)
        return service

    def assert_kept(self, *numbers: int) -> None:
        expected = [f"job-{number}" for number in numbers]
        self.assertEqual((expected, expected), (list(self.store.kept), list(self.outputs.by_job)))

    def test_removes(self) -> None:
        """Record and output of expired jobs are removed; the time of the removal is remembered."""
        self.a_service(Retention(jobs=2))
        self.clock.advance(0)
        self.assert_kept(4, 5)
        self.assertEqual([6 * DAY] * 3, list(self.store.removed.values()))

    def test_told(self) -> None:
        """The observer is told of each look, with the number of removed jobs, and of each failure."""
        self.a_service(Retention(jobs=2))
        self.clock.advance(0)
        self.clock.advance(PAUSE_SECONDS)
        self.outputs.removal_refused = OSError(5, "Input/output error")
        self.store.kept["job-9"] = replace(self.store.kept["job-5"], id="job-9", number=9)
        self.outputs.create("job-9", False, 0)
        self.clock.advance(PAUSE_SECONDS)
        told = [("retention_looked", 3), ("retention_looked", 0), ("retention_failed",)]
        self.assertEqual(told, self.observer.told)

    def test_again_and_again(self) -> None:
        """It looks again after a pause, and finds jobs that have expired since."""
        self.a_service(Retention(days=5))
        self.clock.advance(0)
        self.assert_kept(1, 2, 3, 4, 5)
        for _ in range(int(DAY / PAUSE_SECONDS) + 1):
            self.clock.advance(PAUSE_SECONDS)
        self.assert_kept(3, 4, 5)

    def test_wall_clock(self) -> None:
        """Jobs are kept by elapsed time, however the wall clock is set."""
        self.a_service(Retention(days=5.5))
        for self.wall_stepped_by in (400 * DAY, -400 * DAY):
            self.clock.advance(PAUSE_SECONDS)
            self.assert_kept(1, 2, 3, 4, 5)
        self.clock.advance(DAY)
        self.assert_kept(2, 3, 4, 5)
        self.assertEqual([7 * DAY - 400 * DAY + 2 * PAUSE_SECONDS], list(self.store.removed.values()))

    def test_nothing_wanted(self) -> None:
        """Without limits it never looks."""
        self.a_service(Retention())
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_new_limits(self) -> None:
        """New limits hold at once, from none to some and back."""
        service = self.a_service(Retention())
        service.set_limits(Retention(jobs=2))
        self.clock.advance(0)
        self.assert_kept(4, 5)
        service.set_limits(Retention(jobs=1))
        self.clock.advance(0)
        self.assert_kept(5)
        service.set_limits(Retention())
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_new_limits_during_a_look(self) -> None:
        """New limits that come during a look hold for the next one; there is never more than one look."""
        self.in_thread = self.later
        service = self.a_service(Retention(jobs=4))
        self.clock.advance(0)
        service.set_limits(Retention(jobs=3))
        self.clock.advance(0)
        self.assertEqual(1, len(self.threads))
        while self.threads:
            self.run_thread()
        self.clock.advance(PAUSE_SECONDS)
        while self.threads:
            self.run_thread()
        self.assert_kept(3, 4, 5)

    def test_viewed(self) -> None:
        """Viewed output stays until its last viewer has left; other jobs are removed meanwhile."""
        self.a_service(Retention(jobs=2))
        with self.viewers.looking("job-2"):
            self.clock.advance(0)
            self.assert_kept(2, 4, 5)
        self.clock.advance(PAUSE_SECONDS)
        self.assert_kept(4, 5)

    def test_output_first(self) -> None:
        """Output is removed before its record; until both are gone the output cannot be viewed."""
        self.in_thread = self.later
        self.a_service(Retention(jobs=4))
        self.clock.advance(0)
        self.run_thread()
        self.assertRaises(NoSuchJob, self.enter, "job-1")
        self.run_thread()
        self.assert_kept(2, 3, 4, 5)

    def later(self, call: Callable[[], Any]) -> Deferred[Any]:
        answer: Deferred[Any] = Deferred()
        self.threads.append((call, answer))
        return answer

    def run_thread(self) -> None:
        call, answer = self.threads.pop(0)
        maybeDeferred(call).chainDeferred(answer)

    def enter(self, job_id: str) -> None:
        with self.viewers.looking(job_id):
            pass

    def test_disk_refuses(self) -> None:
        """If output cannot be deleted its record stays, it can be viewed again, and removal is tried again later."""
        self.a_service(Retention(jobs=4))
        self.outputs.removal_refused = OSError(30, "Read-only file system")
        self.clock.advance(0)
        self.assert_kept(1, 2, 3, 4, 5)
        self.enter("job-1")
        self.outputs.removal_refused = None
        self.clock.advance(PAUSE_SECONDS)
        self.assert_kept(2, 3, 4, 5)
        self.assertEqual([], self.flushLoggedErrors())

    def test_store_refuses(self) -> None:
        """A store that cannot be read is tried again later."""
        self.a_service(Retention(jobs=4))
        refusing = self.patch(self.store, "expired", self.refuse)
        self.clock.advance(0)
        refusing.restore()
        self.clock.advance(PAUSE_SECONDS)
        self.assert_kept(2, 3, 4, 5)
        self.assertEqual([], self.flushLoggedErrors())

    def refuse(self, *arguments: object) -> list[Job]:
        raise StoreFull("the disk is full")

    def test_mistake(self) -> None:
        """A programming error is logged as one, and looking goes on."""
        self.a_service(Retention(jobs=4))
        del self.outputs.by_job["job-1"]
        self.clock.advance(0)
        self.assertEqual(1, len(self.flushLoggedErrors(KeyError)))
        self.outputs.create("job-1", False, 0)
        self.clock.advance(PAUSE_SECONDS)
        self.assertNotIn("job-1", self.store.kept)

    def test_steps(self) -> None:
        """Many jobs are removed in steps of bounded size, without a pause in between."""
        self.patch(retention, "AT_ONCE", 2)
        self.patch(retention, "FOUND", 4)
        looks = mock.Mock(side_effect=self.store.expired)
        self.patch(self.store, "expired", looks)
        steps: list[int] = []
        remove = self.store.remove

        def counted(jobs: Collection[Job], at: float) -> Deferred[None]:
            steps.append(len(jobs))
            return remove(jobs, at)

        self.patch(self.store, "remove", counted)
        self.a_service(Retention(days=0.5))
        self.clock.advance(0)
        self.assert_kept()
        self.assertEqual(([2, 2, 1], 2), (steps, looks.call_count))

    def test_all_viewed(self) -> None:
        """A step that finds only viewed jobs is followed by a pause, not by the same step at once."""
        self.patch(retention, "FOUND", 2)
        self.a_service(Retention(jobs=1))
        with self.viewers.looking("job-1"), self.viewers.looking("job-2"):
            self.clock.advance(0)
            self.assertEqual(1, len(self.clock.getDelayedCalls()))
        self.assert_kept(1, 2, 3, 4, 5)

    def test_stops(self) -> None:
        """After a stop no timer is left; a step that is under way finishes, and no other begins."""
        for calls, kept in ((1, (1, 2, 3, 4, 5)), (2, (2, 3, 4, 5))):
            self.in_thread = self.later
            service = self.a_service(Retention(jobs=4))
            self.clock.advance(0)
            for _ in range(calls - 1):
                self.run_thread()
            service.stopService()
            self.run_thread()
            self.assertEqual(([], []), (self.clock.getDelayedCalls(), self.threads))
            self.assert_kept(*kept)
