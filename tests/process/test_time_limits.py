"""When a lease runs out: one timer, renewed by a note of the time. On a Clock."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from txworker.jobs import EndReason
from txworker.process.time_limits import LimitTimers, TimeLimits
from txworker.process.timers import Timers


class LeaseTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.reasons: list[EndReason] = []

    def limits(self, lease_seconds: float | None) -> LimitTimers:
        limits = LimitTimers(Timers(self.clock), TimeLimits(10, 2, lease_seconds=lease_seconds))
        limits.begin(self.reasons.append, lambda: False)
        return limits

    def test_runs_out(self) -> None:
        """A lease that is not renewed runs out after its time, once."""
        self.limits(30)
        self.clock.advance(29.9)
        self.assertEqual([], self.reasons)
        self.clock.advance(0.1)
        self.assertEqual([EndReason.LEASE], self.reasons)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_renewed(self) -> None:
        """Each renewal begins the lease anew, however many there are, and the job has one timer for it."""
        limits = self.limits(30)
        for _ in range(20):
            self.clock.advance(20)
            limits.renew_lease()
            self.assertEqual(1, len(self.clock.getDelayedCalls()))
        self.clock.advance(10)
        self.clock.advance(19.9)
        self.assertEqual([], self.reasons)
        self.clock.advance(0.1)
        self.assertEqual([EndReason.LEASE], self.reasons)

    def test_worker_stood_still(self) -> None:
        """After the worker itself was suspended the lease starts again, because it could not be renewed meanwhile."""
        self.limits(30)
        self.clock.advance(300)
        self.clock.advance(29.9)
        self.assertEqual([], self.reasons)
        self.clock.advance(0.1)
        self.assertEqual([EndReason.LEASE], self.reasons)

    def test_ended(self) -> None:
        """A job that is being ended has no lease any more, and a renewal gives it none."""
        limits = self.limits(30)
        limits.cancel()
        limits.renew_lease()
        self.clock.advance(100)
        self.assertEqual(([], []), (self.reasons, self.clock.getDelayedCalls()))

    def test_none(self) -> None:
        """Renewing a job without a lease gives it none."""
        self.limits(None).renew_lease()
        self.clock.advance(1000)
        self.assertEqual(([], []), (self.reasons, self.clock.getDelayedCalls()))
