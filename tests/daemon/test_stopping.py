"""What happens to running jobs when the worker stops or hands over."""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ReactorNotRunning
from twisted.internet.task import Clock
from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from tests.support.fakes import worker_fixture
from txworker.daemon.handover import Handover
from txworker.daemon.stopping import CLOSING_SECONDS, stop_jobs
from txworker.jobs import JobSpec, JobState
from txworker.jobs.errors import HandoverRefused, WorkerStopping


class StopTests(SynchronousTestCase):
    """The worker has one running job and stops."""

    def setUp(self) -> None:
        self.clock: Any = Clock()  # mypy does not know that it is an IReactorTime
        self.fixture = worker_fixture()
        self.job_id = self.successResultOf(self.fixture.worker.submit(JobSpec("true"))).id
        self.running = self.fixture.launcher.running[self.job_id]
        self.stops: list[str] = []

    def handover(self, wanted: bool, can_leave: bool = True) -> Handover:
        return Handover(self.fixture.worker, wanted, can_leave, lambda: self.stops.append("stopped"))

    def test_ends_jobs(self) -> None:
        """Jobs are ended; it fires when the last is done, and no timer is left."""
        stopped = stop_jobs(self.fixture.worker, self.handover(wanted=False), self.clock, 5.0)
        self.assertEqual([10], self.running.stops)
        self.assertNoResult(stopped)
        self.running.exit(None, 15)
        self.successResultOf(stopped)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_job_that_does_not_end(self) -> None:
        """After the given time the worker goes on without a job that does not end; its record says so."""
        stopped = stop_jobs(self.fixture.worker, self.handover(wanted=False), self.clock, 5.0)
        self.clock.advance(5.0)
        self.successResultOf(stopped)
        job = self.fixture.catalog.get(self.job_id)
        self.assertEqual(JobState.STOPPING, job.state)
        self.assertIn("still ran when the worker stopped", job.error_text)

    def test_leaves_jobs(self) -> None:
        """Jobs that are left are not stopped; watchers are told that no job will change any more."""
        told: list[LogEvent] = []
        observer: Any = told.append
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        stopped = stop_jobs(self.fixture.worker, self.handover(wanted=True), self.clock, 5.0)
        self.running.left.callback(None)
        self.successResultOf(stopped)
        self.assertEqual(["1 job is left to the next worker."], [formatEvent(event) for event in told])
        self.assertEqual([], self.running.stops)
        self.failureResultOf(self.fixture.catalog.changes.since(1000), WorkerStopping)

    def test_cannot_leave(self) -> None:
        """Jobs that cannot outlive the worker are ended, even if they should be left."""
        stop_jobs(self.fixture.worker, self.handover(wanted=True, can_leave=False), self.clock, 5.0)
        self.assertEqual([10], self.running.stops)

    def test_handover(self) -> None:
        """A handover stops the worker once, leaves the jobs, and tells how many."""
        handover = self.handover(wanted=False)
        self.assertFalse(handover.leaves)
        self.assertEqual(1, self.successResultOf(handover.begin()))
        self.assertEqual((True, ["stopped"]), (handover.leaves, self.stops))

    def test_leaving_that_hangs(self) -> None:
        """Output that is still being copied, to a disk that hangs, holds the end up for a few seconds only."""
        stopped = stop_jobs(self.fixture.worker, self.handover(wanted=True), self.clock, 5.0)
        self.clock.advance(CLOSING_SECONDS)
        self.successResultOf(stopped)
        self.failureResultOf(self.fixture.catalog.changes.since(1000), WorkerStopping)
        self.running.left.callback(None)  # the disk answers after all
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_handover_while_stopping(self) -> None:
        """A handover while the worker ends its jobs is refused; while it leaves them it changes nothing."""

        def stop() -> None:
            raise ReactorNotRunning

        handover = Handover(self.fixture.worker, False, True, stop)
        refusal = self.failureResultOf(handover.begin(), HandoverRefused)
        self.assertIn("1 job cannot be left, because this worker is stopping already", str(refusal.value))
        self.assertFalse(handover.leaves)
        handover = Handover(self.fixture.worker, True, True, stop)
        self.assertEqual((1, True), (self.successResultOf(handover.begin()), handover.leaves))

    def test_stop_is_decided_once(self) -> None:
        """Once the worker stops neither a handover nor a reload changes what becomes of its jobs."""
        for wanted in (False, True):
            handover = self.handover(wanted)
            handover.settle()
            handover.configure(not wanted)
            self.assertEqual(wanted, handover.leaves)
        handover = self.handover(wanted=False)
        handover.settle()
        self.failureResultOf(handover.begin(), HandoverRefused)
        self.assertEqual((False, []), (handover.leaves, self.stops))

    def test_handover_refused(self) -> None:
        """Without the shim a handover is refused, and the worker goes on."""
        handover = self.handover(wanted=False, can_leave=False)
        self.failureResultOf(handover.begin(), HandoverRefused)
        self.assertEqual((False, []), (handover.wanted, self.stops))
