"""Draining, with nothing real around it: who is told, what is waited for, and when it is over."""

from __future__ import annotations

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.error import ReactorNotRunning
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.support.fakes import House, a_house
from txworker.daemon.drain import VIEWERS_SECONDS, Drain
from txworker.jobs import JobSpec
from txworker.jobs.errors import WorkerStopping

TRUE = JobSpec("true")


class Goodbye(Service):
    """Says goodbye when it is stopped; said when the test says so."""

    def __init__(self, events: list[str]) -> None:
        self.events = events
        self.said: Deferred[None] = Deferred()

    def stopService(self) -> Deferred[None]:
        self.events.append("goodbye")
        return self.said


class Draining:
    """A worker that can be drained, and what came of it."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.house: House = a_house()
        self.events: list[str] = []
        self.goodbye = Goodbye(self.events)
        self.drain = Drain(
            self.clock,
            self.house.worker,
            lambda: self.events.append("announced"),
            [self.goodbye],
            lambda: self.events.append("over"),
        )


class DrainTests(SynchronousTestCase):
    def test_with_jobs(self) -> None:
        """At once nothing new is taken, and everybody is told; it is over when the last job has ended, not before."""
        it = Draining()
        first, second = (self.successResultOf(it.house.worker.submit(TRUE)).id for _ in range(2))
        self.assertEqual(2, self.successResultOf(it.drain.begin()))
        self.failureResultOf(it.house.worker.submit(TRUE), WorkerStopping)
        it.goodbye.said.callback(None)
        self.assertEqual(["announced", "goodbye"], it.events)
        it.house.launcher.running[first].exit()
        self.assertEqual(["announced", "goodbye"], it.events)
        it.house.launcher.running[second].exit()
        self.assertEqual(["announced", "goodbye", "over"], it.events)
        self.assertEqual([], it.clock.getDelayedCalls())

    def test_again(self) -> None:
        """To be asked again is harmless: it says how many are left, tells nobody twice, and is over once."""
        it = Draining()
        job = self.successResultOf(it.house.worker.submit(TRUE))
        it.goodbye.said.callback(None)
        self.assertEqual([1, 1], [self.successResultOf(it.drain.begin()) for _ in range(2)])
        it.house.launcher.running[job.id].exit()
        self.assertEqual(0, self.successResultOf(it.drain.begin()))
        self.assertEqual(["announced", "goodbye", "over"], it.events)

    def test_goodbye_fails(self) -> None:
        """A goodbye that goes wrong is logged, and keeps nobody."""
        it = Draining()
        it.drain.begin()
        it.goodbye.said.errback(ValueError("of the test"))
        self.assertEqual(["announced", "goodbye", "over"], it.events)
        self.assertEqual(1, len(self.flushLoggedErrors(ValueError)))

    def test_goodbye_is_waited_for(self) -> None:
        """A worker without jobs is not over before the scheduler has heard of it."""
        it = Draining()
        self.assertEqual(0, self.successResultOf(it.drain.begin()))
        self.assertEqual(["announced", "goodbye"], it.events)
        it.goodbye.said.callback(None)
        self.assertEqual(["announced", "goodbye", "over"], it.events)

    def test_viewers(self) -> None:
        """Who still reads when the last job has ended may read on; who has stopped reading holds it up for so long."""
        for stalled in (True, False):
            it = Draining()
            it.goodbye.said.callback(None)
            with it.house.catalog.viewers.looking("job-1"):
                it.drain.begin()
                it.clock.pump([0.1] * int(VIEWERS_SECONDS * 10 - 5))
                self.assertNotIn("over", it.events)
                if stalled:
                    it.clock.pump([0.1] * 10)
                    self.assertIn("over", it.events)
            it.clock.advance(0.1)
            self.assertEqual(1, it.events.count("over"))
            self.assertEqual([], it.clock.getDelayedCalls())

    def test_ended_by_a_signal_meanwhile(self) -> None:
        """When a signal has ended the worker by then, nothing is left to do, and nothing is logged as a mistake."""
        it = Draining()
        it.goodbye.said.callback(None)

        def over() -> None:
            raise ReactorNotRunning

        it.drain = Drain(it.clock, it.house.worker, lambda: None, [it.goodbye], over)
        self.assertEqual(0, self.successResultOf(it.drain.begin()))
        self.assertEqual([], self.flushLoggedErrors())
