"""The brand that a job's processes inherit."""

from __future__ import annotations

import resource
import subprocess
from unittest.mock import patch

from twisted.trial.unittest import SynchronousTestCase

from txworker.process.brand import LOCKS, as_limits, brand, branded

UNLIMITED = resource.RLIM_INFINITY


class BrandTests(SynchronousTestCase):
    def test_number(self) -> None:
        """The same job has the same brand in every run of the worker, and no two have the same."""
        self.assertEqual(brand("job"), brand("job"))
        self.assertEqual(10_000, len({brand(f"job-{number}") for number in range(10_000)}))
        self.assertTrue(0 < brand("") < UNLIMITED % (1 << 64))

    def test_inherited(self) -> None:
        """A child made meanwhile has it, and whatever that child makes; we have none afterwards."""
        with branded(123):
            child = subprocess.run(
                ["sh", "-c", "env -i sh -c 'cat /proc/self/limits' &  wait"], capture_output=True, text=True, check=True
            )
        self.assertRegex(child.stdout, r"Max file locks +123 +unlimited")
        self.assertEqual((UNLIMITED, UNLIMITED), resource.getrlimit(LOCKS))

    def test_none(self) -> None:
        """0 brands nobody."""
        with branded(0):
            self.assertEqual((UNLIMITED, UNLIMITED), resource.getrlimit(LOCKS))
        self.assertEqual((), as_limits(0))

    def test_limited_already(self) -> None:
        """Where somebody has limited locks that stays as it is."""
        with patch("txworker.process.brand.resource.getrlimit", return_value=(5, 9)), branded(123):
            self.assertEqual((), as_limits(123))
        self.assertEqual((UNLIMITED, UNLIMITED), resource.getrlimit(LOCKS))

    def test_for_prepared_children(self) -> None:
        """A child that sets its own limits gets it as one of them."""
        self.assertEqual((("brand", LOCKS, 123, UNLIMITED),), as_limits(123))
