"""Which CPUs threads and jobs may run on."""

from __future__ import annotations

import os
from typing import Any
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from txworker.linux.cpus import CpuPinning


class CpuPinningTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.pinned: list[set[int]] = []
        self.allow({0, 1, 2})

    def allow(self, cpus: set[int]) -> None:
        affinity: dict[str, Any] = {
            "sched_getaffinity": lambda pid: set(cpus),
            "sched_setaffinity": lambda pid, mask: self.pinned.append(set(mask)),
        }
        patched = mock.patch.multiple(os, create=True, **affinity)
        patched.start()
        self.addCleanup(patched.stop)

    def test_pinned_and_unpinned(self) -> None:
        """The thread runs on one CPU; inside the block it may run on all that it might run on before."""
        pinning = CpuPinning()
        (one,) = self.pinned
        self.assertEqual(1, len(one))
        with pinning.unpinned():
            self.assertEqual({0, 1, 2}, self.pinned[-1])
        self.assertEqual(one, self.pinned[-1])

    def test_pinned_again_after_an_error(self) -> None:
        """A launch that fails leaves the reactor pinned."""
        pinning = CpuPinning()
        with self.assertRaises(OSError), pinning.unpinned():
            raise OSError
        self.assertEqual(self.pinned[0], self.pinned[-1])

    def test_taken_away(self) -> None:
        """CPUs that are taken from the worker while it runs cost no job its start."""
        pinning = CpuPinning()
        with mock.patch.object(os, "sched_setaffinity", side_effect=OSError(22, "no")), pinning.unpinned():
            pass

    def test_not_pinned(self) -> None:
        """Switched off, or with a single CPU, nothing is changed."""
        with CpuPinning(pin=False).unpinned():
            pass
        self.allow({3})
        with CpuPinning().unpinned():
            pass
        self.assertEqual([], self.pinned)
