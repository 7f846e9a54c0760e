"""Lines that others can cause at will: how many are written, and that the rest are counted. On a Clock."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.task import Clock
from twisted.logger import LogEvent, capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from txworker.base.ratelimit import RateLimit


class FakeReactor(Clock):
    def callFromThread(self, callable: Callable[..., Any], *args: Any) -> None:
        callable(*args)


class RateLimitTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = FakeReactor()
        self.limit = RateLimit(self.reactor, most=3, period_seconds=5.0)
        captured = capturedLogs()
        self.events: Sequence[LogEvent] = captured.__enter__()
        self.addCleanup(captured.__exit__, None, None, None)

    def told(self) -> list[tuple[Any, Any]]:
        return [(event["count"], event["kind"]) for event in self.events]

    def allowed(self, kind: str, times: int) -> int:
        return sum(self.limit.allows(kind) for _ in range(times))

    def test_few(self) -> None:
        """As long as they come seldom all are written, nothing is told, and no timer runs."""
        for _ in range(10):
            self.assertEqual(3, self.allowed("refusals", 3))
            self.assertEqual([], self.reactor.getDelayedCalls())
            self.reactor.advance(5.0)
        self.assertEqual([], self.told())

    def test_many(self) -> None:
        """The first are written; how many more there were is told when the period is over, though none comes then."""
        self.assertEqual(3, self.allowed("refusals", 900))
        self.reactor.advance(4.0)
        self.assertEqual(0, self.allowed("refusals", 53))
        self.assertEqual([], self.told())
        self.reactor.advance(1.0)
        self.assertEqual([(950, "refusals")], self.told())
        self.reactor.advance(60.0)
        self.assertEqual(([(950, "refusals")], []), (self.told(), self.reactor.getDelayedCalls()))

    def test_going_on(self) -> None:
        """Who goes on has a few lines in each period, and every one is written or counted."""
        written = 0
        for _ in range(600):
            written += self.allowed("refusals", 10)
            self.reactor.advance(0.1)
        self.reactor.advance(5.0)
        self.assertEqual(6000, written + sum(count for count, _ in self.told()))
        self.assertLess(written + len(self.told()), 4 * 13)

    def test_kinds(self) -> None:
        """Many of one kind hide none of another."""
        self.assertEqual((3, 1), (self.allowed("refusals", 100), self.allowed("late answers", 1)))
        self.reactor.advance(5.0)
        self.assertEqual([(97, "refusals")], self.told())

    def test_close(self) -> None:
        """At the end all is told that was not, at once; what is said later is written."""
        self.allowed("refusals", 10)
        self.limit.close()
        self.assertEqual([(7, "refusals")], self.told())
        self.assertEqual(5, self.allowed("refusals", 5))
        self.reactor.advance(60.0)
        self.assertEqual(1, len(self.told()))

    def test_threads(self) -> None:
        """Asked by many threads at once it writes as many as by one, and loses count of none."""
        written: list[int] = []
        threads = [threading.Thread(target=lambda: written.append(self.allowed("x", 500))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.reactor.advance(5.0)
        self.assertEqual((3, [(3997, "x")]), (sum(written), self.told()))
