"""Which CPUs threads and jobs may run on."""

from __future__ import annotations

import os
from typing import Any
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from txworker.linux.cpus import Cores


class CoresTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.pinned: list[set[int]] = []
        self.may({0, 1, 2})

    def may(self, cpus: set[int]) -> None:
        affinity: dict[str, Any] = {
            "sched_getaffinity": lambda pid: set(cpus),
            "sched_setaffinity": lambda pid, mask: self.pinned.append(set(mask)),
        }
        patched = mock.patch.multiple(os, create=True, **affinity)
        patched.start()
        self.addCleanup(patched.stop)

    def test_home_and_away(self) -> None:
        """Whoever makes it is at home on one CPU; roaming means all that it might run on before, and ends."""
        cores = Cores()
        (home,) = self.pinned
        self.assertEqual(1, len(home))
        with cores.roaming():
            self.assertEqual({0, 1, 2}, self.pinned[-1])
        self.assertEqual(home, self.pinned[-1])

    def test_roaming_ends_with_a_mistake(self) -> None:
        """A launch that fails leaves the reactor at home."""
        cores = Cores()
        with self.assertRaises(OSError), cores.roaming():
            raise OSError
        self.assertEqual(self.pinned[0], self.pinned[-1])

    def test_taken_away(self) -> None:
        """CPUs that are taken from the worker while it runs cost no job its start."""
        cores = Cores()
        with mock.patch.object(os, "sched_setaffinity", side_effect=OSError(22, "no")), cores.roaming():
            pass

    def test_nobody_pinned(self) -> None:
        """Switched off, or with a single CPU, nothing is changed."""
        with Cores(home=False).roaming():
            pass
        self.may({3})
        with Cores().roaming():
            pass
        self.assertEqual([], self.pinned)
