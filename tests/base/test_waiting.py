"""Waiting by level, alone or in a crowd."""

from __future__ import annotations

import gc

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from txworker.base.waiting import Waiters, detached


class WaitersTests(SynchronousTestCase):
    def test_late_waiter_misses_nothing(self) -> None:
        """What already holds fires at once."""
        self.assertIsNone(self.successResultOf(Waiters().until(lambda: True)))

    def test_each_by_its_own_condition(self) -> None:
        """A wake tells those whose condition holds now, and only those."""
        level = [0]
        waiters = Waiters()
        first, second = waiters.until(lambda: level[0] > 0), waiters.until(lambda: level[0] > 1)
        level[0] = 1
        waiters.wake()
        self.successResultOf(first)
        self.assertNoResult(second)

    def test_leaving_alone(self) -> None:
        """Cancelling one waiter touches nobody else and leaves nothing behind."""
        level = [False]
        waiters = Waiters()
        leaves, stays = waiters.until(lambda: level[0]), waiters.until(lambda: level[0])
        leaves.cancel()
        self.failureResultOf(leaves, CancelledError)
        self.assertEqual(1, len(waiters))
        level[0] = True
        waiters.wake()
        self.successResultOf(stays)

    def test_waiter_that_makes_another_leave(self) -> None:
        """A woken waiter may cancel a neighbour; that one is not told a second time."""
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
        """The view tells what the order came to."""
        good: Deferred[int] = Deferred()
        bad: Deferred[int] = Deferred()
        good_view, bad_view = detached(good, OSError), detached(bad, OSError)
        good.callback(3)
        bad.errback(ValueError("no"))
        self.assertEqual(3, self.successResultOf(good_view))
        self.failureResultOf(bad_view, ValueError)

    def test_cancelling_stops_the_waiting_only(self) -> None:
        """A caller who gives up does not take the order back."""
        cancelled: list[object] = []
        order: Deferred[int] = Deferred(cancelled.append)
        view = detached(order, OSError)
        view.cancel()
        self.failureResultOf(view, CancelledError)
        self.assertEqual([], cancelled)
        order.callback(1)

    def test_failure_that_nobody_waits_for(self) -> None:
        """An expected one is nobody's; a mistake is logged."""
        for error, logged in [(FileNotFoundError(), 0), (ValueError(), 1)]:
            order: Deferred[int] = Deferred()
            view = detached(order, OSError)
            view.cancel()
            self.failureResultOf(view, CancelledError)
            order.errback(error)
            del order
            gc.collect()
            self.assertEqual(logged, len(self.flushLoggedErrors(ValueError)))
