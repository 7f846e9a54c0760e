"""When the worker registers, retries and deregisters, and what it logs. With a fake clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from txworker.rpc.scheduler import LossTimer, Registration


class FakeLink:
    """A link whose calls wait until the test answers them."""

    def __init__(self, target: str = "scheduler:1") -> None:
        self.target = target
        self.registers: list[Deferred[str]] = []
        self.deregistrations: list[tuple[str, Deferred[None]]] = []
        self.probes: list[Deferred[bool]] = []
        self.lost: Callable[[], None] = lambda: None
        self.closed = False

    def open(self, lost: Callable[[], None]) -> None:
        self.lost = lost

    def register(self, address: str, timeout_seconds: float) -> Deferred[str]:
        self.address = address
        self.registers.append(Deferred())
        return self.registers[-1]

    def deregister(self, worker_id: str, timeout_seconds: float) -> Deferred[None]:
        self.deregistrations.append((worker_id, Deferred()))
        return self.deregistrations[-1][1]

    def probe(self, timeout_seconds: float) -> Deferred[bool]:
        self.probes.append(Deferred())
        return self.probes[-1]

    def close(self) -> None:
        self.closed = True


class RegistrationTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.link = FakeLink()
        self.levels: list[str] = []
        self.answers = 0
        observer: Any = self.record
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        self.registration = Registration(self.clock, self.link, lambda: "here:1", lambda: 0.0, answered=self.answered)
        self.registration.startService()

    def answered(self) -> None:
        self.answers += 1

    def record(self, event: LogEvent) -> None:
        if event["log_namespace"].startswith("txworker.rpc.scheduler") and event["log_level"].name != "debug":
            self.levels.append(str(event["log_level"].name))

    def refuse(self) -> None:
        self.link.registers[-1].errback(ConnectionError("connection refused"))

    def test_registers_at_once(self) -> None:
        """The first try is made at the start, with the worker's address."""
        self.assertEqual((1, "here:1"), (len(self.link.registers), self.link.address))

    def test_backoff(self) -> None:
        """Pauses double up to 30 s, and tries never end; with the least jitter pauses are half as long."""
        pauses = []
        for _ in range(10):
            self.refuse()
            before = self.clock.seconds()
            tries = len(self.link.registers)
            while len(self.link.registers) == tries:
                self.clock.advance(0.25)
            pauses.append(self.clock.seconds() - before)
        self.assertEqual([0.25, 0.5, 1, 2, 4, 8, 15, 15, 15, 15], pauses)

    def test_one_line_for_each_change(self) -> None:
        """A scheduler that is away, back and away again causes three lines, for any number of tries."""
        for _ in range(5):
            self.refuse()
            self.clock.advance(30)
        self.link.registers[-1].callback("w1")
        self.link.lost()
        self.refuse()
        self.assertEqual(["warn", "info", "warn"], self.levels)

    def test_lost_connection(self) -> None:
        """After a lost connection the worker registers at once, and deregisters its old id once it has a new one."""
        self.link.registers[-1].callback("w1")
        self.link.lost()
        self.assertEqual((2, []), (len(self.link.registers), self.link.deregistrations))
        self.link.registers[-1].callback("w2")
        self.assertEqual(["w1"], [worker_id for worker_id, _ in self.link.deregistrations])

    def test_same_id_again(self) -> None:
        """If the scheduler assigns the same id again, the worker does not deregister it."""
        self.link.registers[-1].callback("w1")
        self.link.lost()
        self.link.registers[-1].callback("w1")
        self.assertEqual([], self.link.deregistrations)

    def test_registered(self) -> None:
        """It tells whether the scheduler has the worker, and each answer that shows so."""
        self.assertEqual((False, 0), (self.registration.registered, self.answers))
        self.refuse()
        self.assertEqual((False, 0), (self.registration.registered, self.answers))
        self.clock.advance(1)
        self.link.registers[-1].callback("w1")
        self.assertEqual((True, 1), (self.registration.registered, self.answers))
        self.clock.advance(30)
        self.link.probes[-1].callback(True)
        self.assertEqual((True, 2), (self.registration.registered, self.answers))
        self.link.lost()
        self.assertEqual((False, 2), (self.registration.registered, self.answers))
        self.link.registers[-1].callback("w1")
        self.registration.stopService()
        self.assertEqual((False, 3), (self.registration.registered, self.answers))

    def test_probe(self) -> None:
        """The worker probes the scheduler every 30 s, and registers again when a probe fails."""
        self.link.registers[-1].callback("w1")
        self.clock.advance(30)
        self.link.probes[-1].callback(True)
        self.clock.advance(30)
        self.link.probes[-1].callback(False)
        self.assertEqual((2, 2), (len(self.link.probes), len(self.link.registers)))

    def test_silent_scheduler(self) -> None:
        """A call that is never answered ends at its limit and is retried."""
        self.clock.advance(6)
        self.clock.advance(0.25)
        self.assertEqual(2, len(self.link.registers))

    def test_restarts_all_the_time(self) -> None:
        """Each line asks allows() first, so a scheduler that restarts all the time does not fill the log."""
        kinds: list[str] = []

        def allows(kind: str) -> bool:
            kinds.append(kind)
            return kinds.count(kind) <= 2

        link = FakeLink()
        registration = Registration(self.clock, link, lambda: "here:1", lambda: 0.0, allows=allows)
        registration.startService()
        for number in range(50):
            link.registers[-1].callback(f"w{number}")
            link.lost()
        self.assertEqual(["info", "warn", "info", "warn"], self.levels)
        self.assertEqual((50, 50), (kinds.count("registered with the scheduler"), len(link.registers) - 1))

    def test_deregisters(self) -> None:
        """Stopping deregisters, waits for the answer, and leaves no timer."""
        self.link.registers[-1].callback("w1")
        over = self.registration.stopService()
        self.assertNoResult(over)
        self.link.deregistrations[-1][1].callback(None)
        self.successResultOf(over)
        self.assertTrue(self.link.closed)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_stop_again(self) -> None:
        """A second stop (a drain, then a signal) waits for the same deregistration."""
        self.link.registers[-1].callback("w1")
        overs = [self.registration.stopService() for _ in range(2)]
        for over in overs:
            self.assertNoResult(over)
        self.link.deregistrations[-1][1].callback(None)
        for over in [*overs, self.registration.stopService()]:
            self.successResultOf(over)
        self.assertEqual(1, len(self.link.deregistrations))

    def test_no_answer_to_deregistering(self) -> None:
        """A scheduler that does not answer delays the stop by two seconds at most."""
        self.link.registers[-1].callback("w1")
        over = self.registration.stopService()
        self.clock.advance(2)
        self.successResultOf(over)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_stop_during_a_try(self) -> None:
        """A registration that succeeds during the stop is deregistered, so the scheduler knows no ended worker."""
        over = self.registration.stopService()
        self.assertNoResult(over)
        self.link.registers[-1].callback("w1")
        self.assertEqual("w1", self.link.deregistrations[-1][0])
        self.link.deregistrations[-1][1].callback(None)
        self.successResultOf(over)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_stop_during_another_try(self) -> None:
        """If that is not the first registration, the id before is deregistered as well, and the stop waits for both."""
        self.link.registers[-1].callback("w1")
        self.link.lost()
        over = self.registration.stopService()
        self.link.registers[-1].callback("w2")
        deregistrations = dict(self.link.deregistrations)
        self.assertEqual({"w1", "w2"}, set(deregistrations))
        deregistrations["w2"].callback(None)
        self.assertNoResult(over)
        deregistrations["w1"].errback(ConnectionError("connection refused"))
        self.successResultOf(over)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_stop_while_the_old_id_is_deregistered(self) -> None:
        """The stop waits until the id of an earlier registration is deregistered, for two seconds at most."""
        for answered in (True, False):
            self.setUp()
            self.link.registers[-1].callback("w1")
            self.link.lost()
            self.link.registers[-1].callback("w2")
            over = self.registration.stopService()
            deregistrations = dict(self.link.deregistrations)
            deregistrations["w2"].callback(None)
            self.assertNoResult(over)
            if answered:
                deregistrations["w1"].callback(None)
            else:
                self.clock.advance(2)
            self.successResultOf(over)

    def test_stop_during_an_unanswered_try(self) -> None:
        """A registration that is never answered delays the stop by two seconds at most."""
        over = self.registration.stopService()
        self.clock.advance(2)
        self.successResultOf(over)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_stop_between_two_tries(self) -> None:
        """Stopping between two tries ends at once, and no further try follows."""
        self.refuse()
        self.successResultOf(self.registration.stopService())
        self.clock.advance(100)
        self.assertEqual(([], 1), (self.clock.getDelayedCalls(), len(self.link.registers)))


class LossTests(SynchronousTestCase):
    """What happens without a registration for too long: here after 60 s."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.link = FakeLink()
        self.acted: list[float] = []
        self.loss = LossTimer(self.clock, 60.0, "it ends", lambda: self.acted.append(self.clock.seconds()))
        self.registration = Registration(self.clock, self.link, lambda: "here:1", lambda: 0.0, loss=self.loss)
        self.registration.startService()

    def try_until(self, seconds: float) -> None:
        """Every try is refused, until then."""
        while self.clock.seconds() < seconds:
            if not self.link.registers[-1].called:
                self.link.registers[-1].errback(ConnectionError("connection refused"))
            self.clock.advance(0.5)

    def test_never_there(self) -> None:
        """A scheduler that was never reached is lost after the time, once, and is tried on."""
        self.try_until(59)
        self.assertEqual([], self.acted)
        self.try_until(500)
        self.assertEqual([60.0], self.acted)
        self.assertGreater(len(self.link.registers), 20)

    def test_registered_in_time(self) -> None:
        """A registration ends the time, and the loss of the connection begins it anew."""
        self.try_until(30)
        while self.link.registers[-1].called:
            self.clock.advance(0.5)
        self.link.registers[-1].callback("w1")
        for _ in range(60):
            self.clock.advance(0.5)
        self.assertEqual([], self.acted)
        self.link.lost()
        begun = self.clock.seconds()
        self.try_until(begun + 200)
        self.assertEqual([begun + 60], self.acted)

    def test_each_loss(self) -> None:
        """A scheduler that comes back and is lost again is lost again."""
        self.try_until(61)
        while self.link.registers[-1].called:
            self.clock.advance(0.5)
        self.link.registers[-1].callback("w1")
        self.link.lost()
        self.try_until(self.clock.seconds() + 100)
        self.assertEqual(2, len(self.acted))

    def test_stop(self) -> None:
        """A worker that stops, or drains, leaves no timer."""
        self.link.registers[-1].errback(ConnectionError("connection refused"))
        self.successResultOf(self.registration.stopService())
        self.assertEqual([], self.clock.getDelayedCalls())
