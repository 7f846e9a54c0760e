"""What the worker tells an observer, and how much it has to do."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.support.fakes import worker_fixture
from tests.support.memory_store import MemoryStore
from tests.support.observer import RecordingObserver
from txworker.jobs import JobSpec, JobState
from txworker.jobs.errors import (
    StoreFull,
)
from txworker.jobs.held_process import HeldProcess

TRUE = JobSpec("true", "a/path", timeout_seconds=60)


class ObserverTests(SynchronousTestCase):
    def test_a_job(self) -> None:
        """A launch is told with the time since its request was accepted, an end with the output of the job."""
        now = [100.0]
        fixture = worker_fixture(observer=(observer := RecordingObserver()), elapsed=lambda: now[0])
        fixture.launcher.slow = Deferred()
        submitted = fixture.worker.submit(TRUE)
        now[0] += 0.25
        self.assertEqual([], observer.told)
        fixture.launcher.slow.callback(None)
        job = self.successResultOf(submitted)
        self.assertEqual([("started", 0.25)], observer.told)
        fixture.outputs.by_job[job.id].write(1, b"hello")
        fixture.launcher.running[job.id].exit(1)
        self.assertEqual([("ended", "FAILED", 5)], observer.told[1:])

    def test_not_before_it_is_written(self) -> None:
        """An end that cannot be written is not told, as it is not told to clients."""
        store = MemoryStore()
        fixture = worker_fixture(observer=(observer := RecordingObserver()), store=store)
        job = self.successResultOf(fixture.worker.submit(TRUE))
        store.broken = StoreFull("the disk is full")
        fixture.launcher.running[job.id].exit()
        self.assertEqual([], observer.of("ended"))
        store.repair()
        self.assertEqual([("ended", "SUCCEEDED", 0)], observer.of("ended"))

    def test_taken_over(self) -> None:
        """Only what this worker records of a job that is taken over counts; a lost job is reported as LOST."""
        before = worker_fixture()
        first, second = (self.successResultOf(before.worker.submit(TRUE)) for _ in range(2))
        before.outputs.by_job[first.id].write(1, b"before")
        fixture = worker_fixture(observer=(observer := RecordingObserver()), store=before.store)
        fixture.outputs.by_job.update(before.outputs.by_job)
        fixture.take_over(HeldProcess(first.id, 4711, 7, 0.0, ()))
        self.assertEqual([("taken_over",), ("ended", "LOST", 0)], observer.told)
        fixture.outputs.by_job[first.id].write(1, b"and after")
        self.assertEqual(9, fixture.worker.load.output_bytes())
        fixture.launcher.running[first.id].exit()
        self.assertEqual(("ended", "SUCCEEDED", 9), observer.told[-1])
        self.assertEqual(0, fixture.worker.load.output_bytes())
        self.assertEqual("LOST", fixture.catalog.get(second.id).state.name)


class LoadTests(SynchronousTestCase):
    def test_by_state(self) -> None:
        """Unfinished jobs are counted by their state; one that is being launched is PENDING."""
        fixture = worker_fixture()
        first, second = (self.successResultOf(fixture.worker.submit(TRUE)) for _ in range(2))
        fixture.worker.stop(second.id)
        fixture.launcher.slow = Deferred()
        fixture.worker.submit(TRUE)
        expected = {JobState.PENDING: 1, JobState.RUNNING: 1, JobState.STOPPING: 1}
        self.assertEqual(expected, fixture.worker.load.by_state())
        fixture.outputs.by_job[first.id].truncated = True
        self.assertEqual(1, fixture.worker.load.truncated())
