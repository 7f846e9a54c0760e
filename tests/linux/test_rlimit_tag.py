"""The tag that a job's processes inherit in a resource limit."""

from __future__ import annotations

import resource
import subprocess
from unittest.mock import patch

from twisted.trial.unittest import SynchronousTestCase

from txworker.leftovers.tags import rlimit_tag_for
from txworker.linux.rlimit_tag import LOCKS, as_limits, tagged

UNLIMITED = resource.RLIM_INFINITY


class TagTests(SynchronousTestCase):
    def test_number(self) -> None:
        """The same job has the same tag in every run of the worker, and no two have the same."""
        self.assertEqual(rlimit_tag_for("job"), rlimit_tag_for("job"))
        self.assertEqual(10_000, len({rlimit_tag_for(f"job-{number}") for number in range(10_000)}))
        self.assertTrue(0 < rlimit_tag_for("") < UNLIMITED % (1 << 64))

    def test_inherited(self) -> None:
        """A child that is started inside has it, and so have its children; this process has none afterwards."""
        with tagged(123):
            child = subprocess.run(
                ["sh", "-c", "env -i sh -c 'cat /proc/self/limits' &  wait"], capture_output=True, text=True, check=True
            )
        self.assertRegex(child.stdout, r"Max file locks +123 +unlimited")
        self.assertEqual((UNLIMITED, UNLIMITED), resource.getrlimit(LOCKS))

    def test_none(self) -> None:
        """0 tags nothing."""
        with tagged(0):
            self.assertEqual((UNLIMITED, UNLIMITED), resource.getrlimit(LOCKS))
        self.assertEqual((), as_limits(0))

    def test_limited_already(self) -> None:
        """A limit that an operator has set stays, and there is no tag."""
        with patch("txworker.linux.rlimit_tag.resource.getrlimit", return_value=(5, 9)), tagged(123):
            self.assertEqual((), as_limits(123))
        self.assertEqual((UNLIMITED, UNLIMITED), resource.getrlimit(LOCKS))

    def test_for_children_that_set_limits(self) -> None:
        """A child that sets its own limits gets the tag as one of them."""
        self.assertEqual((("rlimit tag", LOCKS, 123, UNLIMITED),), as_limits(123))
