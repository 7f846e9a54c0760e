"""One job of each request: written, then launched, then answered."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.support.fakes import worker_fixture
from txworker.jobs import EndReason, JobSpec
from txworker.jobs.errors import (
    CallerGone,
    NoSuchExecutable,
    NoSuchJob,
    OutOfResources,
    StoreFull,
    WorkerStopping,
)

TRUE = JobSpec("true", "a/path", timeout_seconds=60)


class SequenceTests(SynchronousTestCase):
    """A job is written, then launched, then answered."""

    def setUp(self) -> None:
        self.fixture = worker_fixture()
        self.store, self.launcher, self.worker = self.fixture.store, self.fixture.launcher, self.fixture.worker
        self.catalog = self.fixture.catalog

    def test_written_first(self) -> None:
        """Nothing is launched before the job is written, and the answer comes after the launch."""
        self.store.slow = True
        answer = self.worker.submit(TRUE)
        self.assertEqual({}, self.launcher.running)
        self.assertRaises(NoSuchJob, self.catalog.get, "job-1")
        self.store.write_pending()
        self.assertEqual(["job-1"], list(self.launcher.running))
        self.assertEqual("job-1", self.successResultOf(answer).id)

    def test_cannot_be_written(self) -> None:
        """A job that cannot be written is refused with the reason; nothing is launched, no file is made."""
        self.store.broken = StoreFull("the disk is full")
        failure = self.failureResultOf(self.worker.submit(TRUE), StoreFull)
        self.assertIn("the disk is full", str(failure.value))
        self.assertEqual(({}, {}, {}), (self.launcher.running, self.fixture.outputs.by_job, self.store.kept))
        self.store.repair()
        self.successResultOf(self.worker.submit(TRUE))

    def test_dropped(self) -> None:
        """A job whose launch failed is dropped from the store."""
        self.launcher.refusal = NoSuchExecutable("true")
        self.failureResultOf(self.worker.submit(TRUE), NoSuchExecutable)
        self.assertEqual({}, self.store.kept)

    def test_caller_leaves(self) -> None:
        """Cancelling while the job is being written stops only the waiting; the job is launched."""
        self.store.slow = True
        answer = self.worker.submit(TRUE)
        answer.cancel()
        self.failureResultOf(answer, CancelledError)
        self.store.write_pending()
        self.assertEqual(["job-1"], list(self.launcher.running))

    def test_no_longer_wanted(self) -> None:
        """If the job is not wanted any more once it is written, nothing is launched and nothing stays."""
        self.store.slow = True
        answer = self.worker.submit(TRUE, lambda: False)
        self.store.write_pending()
        self.failureResultOf(answer, CallerGone)
        self.assertEqual(({}, {}), (self.launcher.running, self.store.kept))

    def test_refused_after_writing(self) -> None:
        """A drain that begins while a job is being written refuses it, and waits until its record is dropped."""
        self.store.slow = True
        answer = self.worker.submit(TRUE)
        drained = self.worker.drain()
        self.assertNoResult(drained)
        self.store.write_pending()
        self.failureResultOf(answer, WorkerStopping)
        self.successResultOf(drained)
        self.assertEqual(({}, {}), (self.launcher.running, self.store.kept))

    def test_stopped_during_a_launch(self) -> None:
        """stop_all() during a launch waits for it, and then ends that job."""
        self.launcher.slow = Deferred()
        answer = self.worker.submit(TRUE)
        stopped = self.worker.stop_all()
        self.assertNoResult(answer)
        self.assertEqual(["job-1"], self.worker.running_ids())
        self.launcher.slow.callback(None)
        self.assertEqual("job-1", self.successResultOf(answer).id)
        running = self.launcher.running["job-1"]
        self.assertEqual([10], running.stops)
        self.assertNoResult(stopped)
        running.exit(None, 15)
        self.successResultOf(stopped)
        self.assertEqual(EndReason.WORKER_STOPPING, self.catalog.get("job-1").end_reason)

    def test_drained_during_a_launch(self) -> None:
        """A drain lets a job that is being launched end by itself."""
        self.launcher.slow = Deferred()
        answer = self.worker.submit(TRUE)
        drained = self.worker.drain()
        self.launcher.slow.callback(None)
        self.successResultOf(answer)
        self.assertEqual([], self.launcher.running["job-1"].stops)
        self.assertNoResult(drained)
        self.launcher.running["job-1"].exit()
        self.successResultOf(drained)

    def test_starting_jobs_count(self) -> None:
        """Jobs that are being written count for max_running."""
        fixture = worker_fixture(max_running=2)
        fixture.store.slow = True
        answers = [fixture.worker.submit(TRUE) for _ in range(2)]
        self.failureResultOf(fixture.worker.submit(TRUE), OutOfResources)
        fixture.store.write_pending()
        self.assertEqual(2, len([self.successResultOf(answer) for answer in answers]))
