"""What is measured again and again, with a fake clock."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from txworker.daemon.timers import LAG_SECONDS, LagWatch


class LagWatchTests(SynchronousTestCase):
    def test_lag(self) -> None:
        """It tells how late each call came, and counts the next one from then on."""
        clock, late = Clock(), list[float]()
        watch = LagWatch(clock, late.append)
        watch.startService()
        clock.advance(LAG_SECONDS)
        clock.advance(LAG_SECONDS + 0.25)
        clock.advance(LAG_SECONDS)
        self.assertEqual([0.0, 0.25, 0.0], late)

    def test_stop(self) -> None:
        """It leaves no timer."""
        clock = Clock()
        watch = LagWatch(clock, lambda seconds: None)
        watch.startService()
        watch.stopService()
        watch.stopService()
        self.assertEqual([], clock.getDelayedCalls())
