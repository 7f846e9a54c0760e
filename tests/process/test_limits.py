"""A job's limits as the kernel gets them."""

from __future__ import annotations

import resource
from unittest.mock import patch

from twisted.trial.unittest import SynchronousTestCase

from txworker.jobs import Limits
from txworker.process.limits import CPU_GRACE_SECONDS, kernel_limits

UNLIMITED = resource.RLIM_INFINITY


class LimitTests(SynchronousTestCase):
    def limits(self, limits: Limits, hard: int = UNLIMITED) -> dict[str, tuple[int, int, int]]:
        with patch.object(resource, "getrlimit", return_value=(0, hard)):
            return {name: values for name, *values in kernel_limits(limits)}  # type: ignore[misc]

    def test_nothing_said(self) -> None:
        """A limit that is absent is not set; the output limit is not the kernel's."""
        self.assertEqual({}, self.limits(Limits(max_output_bytes=5)))

    def test_hard_too(self) -> None:
        """A job cannot raise its limits: the hard limit is the same as the soft one."""
        found = self.limits(Limits(max_memory_bytes=7, max_open_files=8, max_processes=9))
        self.assertEqual([resource.RLIMIT_AS, 7, 7], found["limits.maxMemoryBytes"])
        self.assertEqual([resource.RLIMIT_NOFILE, 8, 8], found["limits.maxOpenFiles"])
        self.assertEqual([resource.RLIMIT_NPROC, 9, 9], found["limits.maxProcesses"])

    def test_cpu(self) -> None:
        """The CPU limit is rounded up to whole seconds; KILL comes some seconds after XCPU."""
        for asked, seconds in ((0.01, 1), (1, 1), (1.5, 2)):
            found = self.limits(Limits(max_cpu_seconds=asked))
            self.assertEqual([resource.RLIMIT_CPU, seconds, seconds + CPU_GRACE_SECONDS], found["limits.maxCPU"])

    def test_own_limit(self) -> None:
        """No limit is above the hard limit of this process."""
        found = self.limits(Limits(max_open_files=100, max_cpu_seconds=8), hard=10)
        self.assertEqual([resource.RLIMIT_NOFILE, 10, 10], found["limits.maxOpenFiles"])
        self.assertEqual([resource.RLIMIT_CPU, 8, 10], found["limits.maxCPU"])
