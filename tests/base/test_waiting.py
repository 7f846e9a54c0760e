"""Level-triggered waiting, and operations whose callers stop waiting."""

from __future__ import annotations

import gc

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from txworker.base.waiting import Waiters, detached


class WaitersTests(SynchronousTestCase):
    def test_late_waiter_misses_nothing(self) -> None:
        """A condition that is already true fires at once."""
        self.assertIsNone(self.successResultOf(Waiters().until(lambda: True)))

    def test_each_by_its_own_condition(self) -> None:
        """wake() fires the waiters whose condition is true, and only these."""
        level = [0]
        waiters = Waiters()
        first, second = waiters.until(lambda: level[0] > 0), waiters.until(lambda: level[0] > 1)
        level[0] = 1
        waiters.wake()
        self.successResultOf(first)
        self.assertNoResult(second)

    def test_cancelling_one(self) -> None:
        """Cancelling one waiter removes it and does not affect the others."""
        level = [False]
        waiters = Waiters()
        cancelled, other = waiters.until(lambda: level[0]), waiters.until(lambda: level[0])
        cancelled.cancel()
        self.failureResultOf(cancelled, CancelledError)
        self.assertEqual(1, len(waiters))
        level[0] = True
        waiters.wake()
        self.successResultOf(other)

    def test_waiter_that_cancels_another(self) -> None:
        """A callback may cancel another waiter; that one does not fire a second time."""
        waiters = Waiters()
        level = [False]
        first = waiters.until(lambda: level[0])
        second = waiters.until(lambda: level[0])
        first.addCallback(lambda _: second.cancel())
        level[0] = True
        waiters.wake()
        self.successResultOf(first)
        self.failureResultOf(second, CancelledError)


class DetachedTests(SynchronousTestCase):
    def test_passes_results_and_failures(self) -> None:
        """The returned Deferred fires with the result or the failure of the operation."""
        good: Deferred[int] = Deferred()
        bad: Deferred[int] = Deferred()
        good_waiter, bad_waiter = detached(good, OSError), detached(bad, OSError)
        good.callback(3)
        bad.errback(ValueError("no"))
        self.assertEqual(3, self.successResultOf(good_waiter))
        self.failureResultOf(bad_waiter, ValueError)

    def test_cancelling_stops_the_waiting_only(self) -> None:
        """Cancelling the returned Deferred does not cancel the operation."""
        cancelled: list[object] = []
        operation: Deferred[int] = Deferred(cancelled.append)
        waiter = detached(operation, OSError)
        waiter.cancel()
        self.failureResultOf(waiter, CancelledError)
        self.assertEqual([], cancelled)
        operation.callback(1)

    def test_failure_after_cancelling(self) -> None:
        """An expected failure is dropped; an unexpected one is logged."""
        for error, logged in [(FileNotFoundError(), 0), (ValueError(), 1)]:
            operation: Deferred[int] = Deferred()
            waiter = detached(operation, OSError)
            waiter.cancel()
            self.failureResultOf(waiter, CancelledError)
            operation.errback(error)
            del operation
            gc.collect()
            self.assertEqual(logged, len(self.flushLoggedErrors(ValueError)))
