"""How long a client waits for its worker, and what it says meanwhile."""

from __future__ import annotations

import math

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from txworker.client.errors import InvalidRequest, Unreachable, WorkerError, WorkerStopping
from txworker.client.outage import FIRST_SECONDS, LONGEST_SECONDS, NO_LIMIT, Outage, TimeLimit

BROKEN = WorkerError("failed to connect", "", "UNAVAILABLE")


class OutageTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.told: list[str] = []

    def outage(self, patience: float = 60.0) -> Outage:
        return Outage("following job 1", patience, self.told.append, self.clock.seconds, jitter=lambda: 1.0)

    def fail(self, outage: Outage, seconds: float) -> int:  # type: ignore[override]  # trial's own fail() is not used
        """Fail again and again for so long; how many attempts that were."""
        attempts, end = 0, self.clock.seconds() + seconds
        while self.clock.seconds() < end:
            self.clock.advance(outage.failed(BROKEN))
            attempts += 1
        return attempts

    def test_backoff(self) -> None:
        """Pauses grow from a twentieth of a second to a few seconds, so an outage of a minute is few attempts."""
        self.assertLess(self.fail(self.outage(), 59), 20)

    def test_jitter(self) -> None:
        """A part of each pause is random, so that a thousand clients do not come back together."""
        early = Outage("", 60, self.told.append, self.clock.seconds, jitter=lambda: 0.0).failed(BROKEN)
        late = Outage("", 60, self.told.append, self.clock.seconds, jitter=lambda: 1.0).failed(BROKEN)
        self.assertEqual(2 * early, late)

    def test_patience(self) -> None:
        """When it is over the call fails, in one sentence that says what was tried and why it failed."""
        outage = self.outage(10)
        self.fail(outage, 10)
        error = self.assertRaises(Unreachable, outage.failed, BROKEN)
        self.assertEqual("following job 1: no worker answered for 10 s: failed to connect", str(error))

    def test_slow_attempt(self) -> None:
        """A call counts the time of its first attempt, too: a host that drops packets makes that a long one."""
        outage = self.outage(2)
        outage.begin()
        self.clock.advance(10)
        error = self.assertRaises(Unreachable, outage.failed, BROKEN)
        self.assertEqual(10, error.waited)

    def test_slow_attempt_told(self) -> None:
        """It is told of at once, and of the answer."""
        outage = self.outage()
        outage.begin()
        self.clock.advance(10)
        self.clock.advance(outage.failed(BROKEN))
        outage.over()
        outage = self.outage()
        outage.begin()
        self.clock.advance(10)
        outage.over()
        self.assertEqual(
            ["following job 1: connection lost: failed to connect", "following job 1: the worker answers again"],
            self.told,
        )

    def test_long_stream(self) -> None:
        """A stream that lived for long counts from its loss."""
        outage = self.outage(2)
        self.clock.advance(1000)
        self.fail(outage, 2)

    def test_no_pause_beyond_patience(self) -> None:
        """The last attempt is made when the patience is over, not later."""
        outage = self.outage(0.01)
        self.assertEqual(0.01, outage.failed(BROKEN))

    def test_for_ever(self) -> None:
        """Infinite patience is allowed."""
        self.fail(self.outage(math.inf), 10_000)
        self.assertEqual([], [told for told in self.told if "no worker" in told])

    def test_progress_begins_anew(self) -> None:
        """Patience and pauses count from the last success."""
        outage = self.outage(10)
        self.fail(outage, 9)
        outage.over()
        self.assertLess(outage.failed(BROKEN), 0.1)
        self.fail(outage, 9)

    def test_refused(self) -> None:
        """What would be refused again is raised at once."""
        refusal = InvalidRequest("env: no", "INVALID_ARGUMENT", "INVALID_ARGUMENT")
        self.assertIs(refusal, self.assertRaises(InvalidRequest, self.outage().failed, refusal))

    def test_stopping_worker(self) -> None:
        """A worker that is stopping is waited for: the next one may come soon. No connection is lost so."""
        outage = self.outage()
        for _ in range(8):
            self.clock.advance(outage.failed(WorkerStopping("stopping", "WORKER_STOPPING", "UNAVAILABLE")))
        self.assertEqual(["following job 1: waiting for the next worker: stopping"], self.told)

    def test_said_once(self) -> None:
        """A lost connection and its end are told once each, however many attempts there are."""
        outage = self.outage()
        outage.failed(BROKEN, "at byte 7")
        self.fail(outage, 20)
        outage.over()
        self.assertEqual(
            [
                "following job 1: connection lost, resuming at byte 7: failed to connect",
                "following job 1: the worker answers again",
            ],
            self.told,
        )

    def test_short_one_is_not_told(self) -> None:
        """A call that succeeds at its second attempt is no news."""
        outage = self.outage()
        self.clock.advance(outage.failed(BROKEN))
        outage.over()
        self.assertEqual([], self.told)

    def test_longest_pause(self) -> None:
        """However long it lasts, the next attempt is a few seconds away."""
        outage = self.outage(math.inf)
        self.fail(outage, 1000)
        self.assertEqual(LONGEST_SECONDS, outage.failed(BROKEN))

    def test_not_reached_yet(self) -> None:
        """A worker that has not answered yet may be waited for less long; once it has, the usual patience holds."""
        outage = Outage("x", 60, self.told.append, self.clock.seconds, jitter=lambda: 1.0, first_patience=5)
        self.fail(outage, 5)
        error = self.assertRaises(Unreachable, outage.failed, BROKEN)
        self.assertEqual((BROKEN, 5), (error.__cause__, round(error.waited)))
        outage.over()
        self.fail(outage, 59)

    def test_answers_but_no_progress(self) -> None:
        """A worker that answers is not given up, however often the call itself fails; the pauses still grow."""
        outage = self.outage(10)
        for _ in range(20):
            pause = outage.failed(BROKEN)
            self.clock.advance(pause)
            outage.answered()
        self.assertEqual(LONGEST_SECONDS, pause)

    def test_long_attempt(self) -> None:
        """After an attempt that lasted the next one is made soon: connections that live a while are made anew."""
        outage = self.outage(math.inf)
        self.fail(outage, 1000)
        self.clock.advance(LONGEST_SECONDS + 1)
        self.assertEqual(FIRST_SECONDS, outage.failed(BROKEN))


class TimeLimitTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.limit = TimeLimit(5, self.clock.seconds)

    def test_left(self) -> None:
        """It tells what is left, until nothing is."""
        self.clock.advance(4)
        self.assertEqual((1, 1, 0.5), (self.limit.left(), self.limit.at_most(3), self.limit.at_most(0.5)))
        self.limit.check(BROKEN)
        self.clock.advance(1)
        self.assertRaises(TimeoutError, self.limit.left)
        self.assertRaises(TimeoutError, self.limit.check, BROKEN)

    def test_early(self) -> None:
        """gRPC may find a moment before our clock that the time is over; a message that came too late is not that."""
        self.assertRaises(TimeoutError, self.limit.check, WorkerError("late", "", "DEADLINE_EXCEEDED"))
        self.limit.check(WorkerError("late", "MESSAGE_LATE", "DEADLINE_EXCEEDED"))

    def test_none(self) -> None:
        """No limit is never over."""
        self.assertIsNone(NO_LIMIT.left())
        self.assertEqual(3, NO_LIMIT.at_most(3))
        NO_LIMIT.check(WorkerError("late", "", "DEADLINE_EXCEEDED"))
