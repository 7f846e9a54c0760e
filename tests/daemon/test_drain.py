"""Draining: what is announced, what is awaited, and when the worker stops."""

from __future__ import annotations

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.error import ReactorNotRunning
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.support.fakes import WorkerFixture, worker_fixture
from txworker.daemon.drain import VIEWERS_SECONDS, Drain
from txworker.jobs import JobSpec
from txworker.jobs.errors import WorkerStopping

TRUE = JobSpec("true")


class FakeRegistration(Service):
    """Deregisters when it is stopped, as soon as the test fires `deregistered`."""

    def __init__(self, events: list[str]) -> None:
        self.events = events
        self.deregistered: Deferred[None] = Deferred()

    def stopService(self) -> Deferred[None]:
        self.events.append("deregisters")
        return self.deregistered


class Draining:
    """A worker with a drain, and the events that the drain caused."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.fixture: WorkerFixture = worker_fixture()
        self.events: list[str] = []
        self.registration = FakeRegistration(self.events)
        self.stopping = False
        self.drain = Drain(
            self.clock,
            self.fixture.worker,
            lambda: self.events.append("announced"),
            [self.registration],
            lambda: self.events.append("stopped"),
            lambda: self.stopping,
        )


class DrainTests(SynchronousTestCase):
    def test_with_jobs(self) -> None:
        """New jobs are refused and the end announced at once; the worker stops when its last job has ended."""
        it = Draining()
        first, second = (self.successResultOf(it.fixture.worker.submit(TRUE)).id for _ in range(2))
        self.assertEqual(2, self.successResultOf(it.drain.begin()))
        self.failureResultOf(it.fixture.worker.submit(TRUE), WorkerStopping)
        it.registration.deregistered.callback(None)
        self.assertEqual(["announced", "deregisters"], it.events)
        it.fixture.launcher.running[first].exit()
        self.assertEqual(["announced", "deregisters"], it.events)
        it.fixture.launcher.running[second].exit()
        self.assertEqual(["announced", "deregisters", "stopped"], it.events)
        self.assertEqual([], it.clock.getDelayedCalls())

    def test_again(self) -> None:
        """A repeated begin() tells how many jobs are left; nothing is announced or stopped twice."""
        it = Draining()
        job = self.successResultOf(it.fixture.worker.submit(TRUE))
        it.registration.deregistered.callback(None)
        self.assertEqual([1, 1], [self.successResultOf(it.drain.begin()) for _ in range(2)])
        it.fixture.launcher.running[job.id].exit()
        self.assertEqual(0, self.successResultOf(it.drain.begin()))
        self.assertEqual(["announced", "deregisters", "stopped"], it.events)

    def test_while_the_worker_stops(self) -> None:
        """A worker that ends or leaves its jobs already says so, and promises no drain; without jobs it needs not."""
        it = Draining()
        job = self.successResultOf(it.fixture.worker.submit(TRUE))
        it.stopping = True
        refused = self.failureResultOf(it.drain.begin(), WorkerStopping)
        self.assertEqual(
            "this worker is stopping already and does not wait for its unfinished jobs (1)", refused.getErrorMessage()
        )
        self.assertEqual(([], False), (it.events, it.drain.begun))
        it.fixture.launcher.running[job.id].exit()
        self.assertEqual(0, self.successResultOf(it.drain.begin()))

    def test_deregistration_fails(self) -> None:
        """An error while deregistering is logged, and the worker stops all the same."""
        it = Draining()
        it.drain.begin()
        it.registration.deregistered.errback(ValueError("of the test"))
        self.assertEqual(["announced", "deregisters", "stopped"], it.events)
        self.assertEqual(1, len(self.flushLoggedErrors(ValueError)))

    def test_deregistration_is_awaited(self) -> None:
        """A worker without jobs does not stop before it has deregistered."""
        it = Draining()
        self.assertEqual(0, self.successResultOf(it.drain.begin()))
        self.assertEqual(["announced", "deregisters"], it.events)
        it.registration.deregistered.callback(None)
        self.assertEqual(["announced", "deregisters", "stopped"], it.events)

    def test_viewers(self) -> None:
        """Viewers may finish reading after the last job has ended; a stalled one delays the stop by a bounded time."""
        for stalled in (True, False):
            it = Draining()
            it.registration.deregistered.callback(None)
            with it.fixture.catalog.viewers.looking("job-1"):
                it.drain.begin()
                it.clock.pump([0.1] * int(VIEWERS_SECONDS * 10 - 5))
                self.assertNotIn("stopped", it.events)
                if stalled:
                    it.clock.pump([0.1] * 10)
                    self.assertIn("stopped", it.events)
            it.clock.advance(0.1)
            self.assertEqual(1, it.events.count("stopped"))
            self.assertEqual([], it.clock.getDelayedCalls())

    def test_ended_by_a_signal_meanwhile(self) -> None:
        """If a signal has stopped the worker meanwhile, nothing is done, and no error is logged."""
        it = Draining()
        it.registration.deregistered.callback(None)

        def stop() -> None:
            raise ReactorNotRunning

        it.drain = Drain(it.clock, it.fixture.worker, lambda: None, [it.registration], stop, lambda: True)
        self.assertEqual(0, self.successResultOf(it.drain.begin()))
        self.assertEqual([], self.flushLoggedErrors())
