"""Several schedulers, tried in turn. With fake links, and a fake clock."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.rpc.scheduler.test_registration import FakeLink
from tests.store.fake_reactor import FakeReactor
from txworker.rpc.scheduler import Link, Links, Registration
from txworker.rpc.scheduler.link import CallFailed


class LinksTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.first, self.second = FakeLink("a:1"), FakeLink("b:1")
        self.links = Links([self.first, self.second])
        self.lost: list[str] = []
        self.links.open(lambda: self.lost.append(self.links.target))

    def register(self) -> Deferred[str]:
        return self.links.register("here:1", 10.0)

    def test_first(self) -> None:
        """The first scheduler gets the worker, and the others hear nothing of it."""
        registering = self.register()
        self.first.registers[-1].callback("w1")
        self.assertEqual("w1", self.successResultOf(registering))
        self.assertEqual(("a:1", []), (self.links.target, self.second.registers))

    def test_next(self) -> None:
        """Where the first cannot be reached the second is tried, and keeps the worker when the first is back."""
        registering = self.register()
        self.first.registers[-1].errback(CallFailed("connection refused"))
        self.second.registers[-1].callback("w1")
        self.assertEqual(("w1", "b:1"), (self.successResultOf(registering), self.links.target))
        again = self.register()
        self.second.registers[-1].callback("w2")
        self.assertEqual(("w2", 1), (self.successResultOf(again), len(self.first.registers)))

    def test_none(self) -> None:
        """Where none can be reached the error names each; the next attempt begins with the first again."""
        registering = self.register()
        self.first.registers[-1].errback(CallFailed("connection refused"))
        self.second.registers[-1].errback(CallFailed("no such host"))
        self.assertEqual(
            "a:1: connection refused; b:1: no such host", str(self.failureResultOf(registering, CallFailed).value)
        )
        self.register()
        self.assertEqual((2, 1), (len(self.first.registers), len(self.second.registers)))

    def test_lost(self) -> None:
        """Only the loss of the scheduler that has the worker counts; then it is tried first."""
        self.test_first()
        self.second.lost()
        self.assertEqual([], self.lost)
        self.first.lost()
        self.assertEqual(["a:1"], self.lost)
        self.register()
        self.assertEqual(2, len(self.first.registers))

    def test_deregistered_where_it_was(self) -> None:
        """An id is given back to the scheduler that gave it, also when another one has the worker by now."""
        self.test_first()
        registering = self.register()
        self.first.registers[-1].errback(CallFailed("connection refused"))
        self.second.registers[-1].callback("w2")
        self.successResultOf(registering)
        self.links.deregister("w1", 2.0)
        self.links.deregister("w2", 2.0)
        self.assertEqual(["w1"], [worker_id for worker_id, _ in self.first.deregistrations])
        self.assertEqual(["w2"], [worker_id for worker_id, _ in self.second.deregistrations])

    def test_cancelled(self) -> None:
        """Cancelling ends the call under way, and no other scheduler is tried."""
        registering = self.register()
        registering.cancel()
        self.failureResultOf(registering, CancelledError)
        self.assertTrue(self.first.registers[-1].called)
        self.assertEqual([], self.second.registers)

    def test_no_connection_in_time(self) -> None:
        """A scheduler whose name is still being resolved when its share of the time is over is passed by."""
        clock = FakeReactor()
        links = Links([Link(clock, "a:1"), self.second])  # the first is not opened, so it never connects
        registering = links.register("here:1", 5.0)
        clock.advance(2.4)
        self.assertEqual([], self.second.registers)
        clock.advance(0.2)
        self.second.registers[-1].callback("w1")
        self.assertEqual(("w1", "b:1"), (self.successResultOf(registering), links.target))
        alone = Link(clock, "a:1").register("here:1", 5.0)
        clock.advance(5.0)
        self.assertEqual("no connection within 5 s", str(self.failureResultOf(alone, CallFailed).value))
        self.assertEqual([], clock.getDelayedCalls())

    def test_probe_and_close(self) -> None:
        """The scheduler that has the worker is probed; every link is closed."""
        self.test_next()
        self.links.probe(5.0)
        self.assertEqual((0, 1), (len(self.first.probes), len(self.second.probes)))
        self.links.close()
        self.assertTrue(self.first.closed)
        self.assertTrue(self.second.closed)


class RegistrationTests(SynchronousTestCase):
    def test_both_at_once(self) -> None:
        """When the scheduler is lost, the other one has the worker without a pause."""
        first, second = FakeLink("a:1"), FakeLink("b:1")
        registration = Registration(Clock(), Links([first, second]), lambda: "here:1", lambda: 0.0)
        registration.startService()
        first.registers[-1].callback("w1")
        first.lost()
        first.registers[-1].errback(CallFailed("connection refused"))
        second.registers[-1].callback("w1")
        self.assertEqual([], second.deregistrations)
        registration.stopService()
        self.assertEqual(["w1"], [worker_id for worker_id, _ in second.deregistrations])
