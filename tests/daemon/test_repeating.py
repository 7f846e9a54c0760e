"""What is done again and again, with a fake clock."""

from __future__ import annotations

import errno

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from txworker.daemon.repeating import repeating


class RepeatingTests(SynchronousTestCase):
    def test_failures(self) -> None:
        """A call that fails is not the last; of failures in a row the first is logged."""
        clock, outcomes = Clock(), [True, False, False, True, False, True]
        left = list(outcomes)

        def call() -> None:
            if not left.pop(0):
                raise OSError(errno.EMFILE, "Too many open files")

        timer = repeating(1.0, call)
        timer.clock = clock
        timer.startService()
        clock.pump([1.0] * 5)
        self.assertEqual([], left)
        self.assertEqual(2, len(self.flushLoggedErrors(OSError)))
        timer.stopService()
        self.assertEqual([], clock.getDelayedCalls())
