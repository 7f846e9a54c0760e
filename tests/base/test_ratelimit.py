"""Log lines that clients cause at will: some are written, the rest are counted. With a fake clock."""

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

    def reports(self) -> list[tuple[Any, Any]]:
        return [(event["count"], event["kind"]) for event in self.events]

    def allowed(self, kind: str, times: int) -> int:
        return sum(self.limit.allows(kind) for _ in range(times))

    def test_few(self) -> None:
        """While lines are rare, all are written, no count is reported and no timer runs."""
        for _ in range(10):
            self.assertEqual(3, self.allowed("refusals", 3))
            self.assertEqual([], self.reactor.getDelayedCalls())
            self.reactor.advance(5.0)
        self.assertEqual([], self.reports())

    def test_many(self) -> None:
        """The first lines are written; the number of further ones is reported at the end of the period."""
        self.assertEqual(3, self.allowed("refusals", 900))
        self.reactor.advance(4.0)
        self.assertEqual(0, self.allowed("refusals", 53))
        self.assertEqual([], self.reports())
        self.reactor.advance(1.0)
        self.assertEqual([(950, "refusals")], self.reports())
        self.reactor.advance(60.0)
        self.assertEqual(([(950, "refusals")], []), (self.reports(), self.reactor.getDelayedCalls()))

    def test_continuous(self) -> None:
        """A kind that never stops gets a few lines in each period, and each of its lines is written or counted."""
        written = 0
        for _ in range(600):
            written += self.allowed("refusals", 10)
            self.reactor.advance(0.1)
        self.reactor.advance(5.0)
        self.assertEqual(6000, written + sum(count for count, _ in self.reports()))
        self.assertLess(written + len(self.reports()), 4 * 13)

    def test_kinds(self) -> None:
        """Many lines of one kind do not suppress another kind."""
        self.assertEqual((3, 1), (self.allowed("refusals", 100), self.allowed("late answers", 1)))
        self.reactor.advance(5.0)
        self.assertEqual([(97, "refusals")], self.reports())

    def test_close(self) -> None:
        """close() reports all counts at once; later lines are all written."""
        self.allowed("refusals", 10)
        self.limit.close()
        self.assertEqual([(7, "refusals")], self.reports())
        self.assertEqual(5, self.allowed("refusals", 5))
        self.reactor.advance(60.0)
        self.assertEqual(1, len(self.reports()))

    def test_threads(self) -> None:
        """Calls from many threads at once allow no more lines than one thread, and all are counted."""
        written: list[int] = []
        threads = [threading.Thread(target=lambda: written.append(self.allowed("x", 500))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.reactor.advance(5.0)
        self.assertEqual((3, [(3997, "x")]), (sum(written), self.reports()))
