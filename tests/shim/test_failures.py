"""What the shim does about an error that nothing else handles."""

from __future__ import annotations

import errno
import time
import traceback

from twisted.trial.unittest import SynchronousTestCase

from txworker.shim.failures import Failures


class FailuresTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.now = 1000.0
        self.printed = 0
        self.patch(time, "monotonic", lambda: self.now)
        self.patch(time, "sleep", self.sleep)
        self.patch(traceback, "print_exc", self.print_exc)
        self.failures = Failures()

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def print_exc(self) -> None:
        self.printed += 1

    def test_fails_on(self) -> None:
        """What fails again and again takes no whole CPU, and shim.log has one traceback of it in a minute."""
        for _ in range(1000):
            self.failures.report()
        self.assertAlmostEqual(1050.0, self.now)
        self.assertEqual(1, self.printed)
        self.now += 11.0
        self.failures.report()
        self.assertEqual(2, self.printed)

    def test_full_disk(self) -> None:
        """That shim.log cannot be written is no error of its own."""

        def refuse() -> None:
            raise OSError(errno.ENOSPC, "no space")

        self.patch(traceback, "print_exc", refuse)
        self.failures.report()
