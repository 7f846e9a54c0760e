"""When the worker registers, again and again, and what it says of it. All on a Clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from txworker.scheduler import Registration


class FakeLink:
    """Calls wait until the test answers them."""

    def __init__(self) -> None:
        self.registers: list[Deferred[str]] = []
        self.goodbyes: list[tuple[str, Deferred[None]]] = []
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
        self.goodbyes.append((worker_id, Deferred()))
        return self.goodbyes[-1][1]

    def probe(self, timeout_seconds: float) -> Deferred[bool]:
        self.probes.append(Deferred())
        return self.probes[-1]

    def close(self) -> None:
        self.closed = True


class RegistrationTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.link = FakeLink()
        self.said: list[str] = []
        observer: Any = self.note
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        self.registration = Registration(self.clock, self.link, lambda: "here:1", lambda: 0.0)
        self.registration.startService()

    def note(self, event: LogEvent) -> None:
        if event["log_namespace"].startswith("txworker.scheduler") and event["log_level"].name != "debug":
            self.said.append(str(event["log_level"].name))

    def refuse(self) -> None:
        self.link.registers[-1].errback(ConnectionError("nobody there"))

    def test_registers_at_once(self) -> None:
        """The first try comes at the start, with the address to be dialled."""
        self.assertEqual((1, "here:1"), (len(self.link.registers), self.link.address))

    def test_backoff(self) -> None:
        """Pauses double up to 30 s and never end; with the least jitter they are half as long."""
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
        """Away, back, away again: three lines, however many tries."""
        for _ in range(5):
            self.refuse()
            self.clock.advance(30)
        self.link.registers[-1].callback("w1")
        self.link.lost()
        self.refuse()
        self.assertEqual(["warn", "info", "warn"], self.said)

    def test_lost_connection(self) -> None:
        """A lost connection means registering anew at once, and goodbye to the old id once there is a new one."""
        self.link.registers[-1].callback("w1")
        self.link.lost()
        self.assertEqual((2, []), (len(self.link.registers), self.link.goodbyes))
        self.link.registers[-1].callback("w2")
        self.assertEqual(["w1"], [worker_id for worker_id, _ in self.link.goodbyes])

    def test_same_id_again(self) -> None:
        """A scheduler that knows us still gets no goodbye for the id that it gave again."""
        self.link.registers[-1].callback("w1")
        self.link.lost()
        self.link.registers[-1].callback("w1")
        self.assertEqual([], self.link.goodbyes)

    def test_probe(self) -> None:
        """Every half minute the scheduler is asked for a sign of life; without one it is registered anew."""
        self.link.registers[-1].callback("w1")
        self.clock.advance(30)
        self.link.probes[-1].callback(True)
        self.clock.advance(30)
        self.link.probes[-1].callback(False)
        self.assertEqual((2, 2), (len(self.link.probes), len(self.link.registers)))

    def test_silent_scheduler(self) -> None:
        """A call that is never answered ends by its limit and is tried again."""
        self.clock.advance(6)
        self.clock.advance(0.25)
        self.assertEqual(2, len(self.link.registers))

    def test_come_and_go(self) -> None:
        """A scheduler that comes and goes all the time fills no log: each line is asked for before it is written."""
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
        self.assertEqual(["info", "warn", "info", "warn"], self.said)
        self.assertEqual((50, 50), (kinds.count("registered with the scheduler"), len(link.registers) - 1))

    def test_goodbye(self) -> None:
        """Stopping says goodbye and waits for it; nothing is left behind."""
        self.link.registers[-1].callback("w1")
        over = self.registration.stopService()
        self.assertNoResult(over)
        self.link.goodbyes[-1][1].callback(None)
        self.successResultOf(over)
        self.assertTrue(self.link.closed)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_stop_again(self) -> None:
        """Whoever stops it again (a drain, then a signal) waits for the same goodbye."""
        self.link.registers[-1].callback("w1")
        overs = [self.registration.stopService() for _ in range(2)]
        for over in overs:
            self.assertNoResult(over)
        self.link.goodbyes[-1][1].callback(None)
        for over in [*overs, self.registration.stopService()]:
            self.successResultOf(over)
        self.assertEqual(1, len(self.link.goodbyes))

    def test_goodbye_to_nobody(self) -> None:
        """A scheduler that does not hear holds the stop up for two seconds at most."""
        self.link.registers[-1].callback("w1")
        over = self.registration.stopService()
        self.clock.advance(2)
        self.successResultOf(over)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_stop_in_the_middle_of_a_try(self) -> None:
        """A try that succeeds while we are leaving is taken back: the scheduler must not know a worker that is gone."""
        over = self.registration.stopService()
        self.assertNoResult(over)
        self.link.registers[-1].callback("w1")
        self.assertEqual("w1", self.link.goodbyes[-1][0])
        self.link.goodbyes[-1][1].callback(None)
        self.successResultOf(over)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_stop_in_a_try_without_end(self) -> None:
        """A try that does not end holds the stop up for two seconds at most."""
        over = self.registration.stopService()
        self.clock.advance(2)
        self.successResultOf(over)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_stop_between_two_tries(self) -> None:
        """Stopping between two tries ends at once and for good."""
        self.refuse()
        self.successResultOf(self.registration.stopService())
        self.clock.advance(100)
        self.assertEqual(([], 1), (self.clock.getDelayedCalls(), len(self.link.registers)))
