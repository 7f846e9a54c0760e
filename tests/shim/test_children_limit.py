"""The limit of descriptors that children start with."""

from __future__ import annotations

import resource

from twisted.trial.unittest import SynchronousTestCase

from txworker.shim import spawn_thread
from txworker.shim.children_limit import ChildrenLimit
from txworker.shim.spawn_thread import SpawnThread


class ChildrenLimitTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.now = (1000, 1000)
        self.patch(resource, "getrlimit", lambda number: self.now)
        self.patch(resource, "setrlimit", lambda number, limits: setattr(self, "now", limits))
        self.limit = ChildrenLimit()

    def test_lowered(self) -> None:
        """The soft limit is the children's while one is started, and the shim's own again afterwards."""
        self.limit.set(64, 1000)
        with self.limit.lowered():
            self.assertEqual((64, 1000), self.now)
        self.assertEqual((1000, 1000), self.now)

    def test_higher_than_ours(self) -> None:
        """A worker's limits beyond the shim's own hard limit are cut to it; jobs start all the same."""
        self.limit.set(4096, 65536)
        self.assertEqual((1000, 1000), self.limit.wanted)
        with self.limit.lowered():
            self.assertEqual((1000, 1000), self.now)

    def test_lowest_kept(self) -> None:
        """What is kept is above the children's limit, if the shim's own is higher; also while that is lowered."""
        self.limit.set(64, 1000)
        with self.limit.lowered():
            self.assertEqual([64, 3, 3], [self.limit.lowest_kept(soft) for soft in (64, 1000, 4096)])

    def test_lift(self) -> None:
        """It is the shim's own as soon as the child is cloned, though its exec may take long; not before."""
        self.limit.set(64, 1000)
        self.assertTrue(self.limit.lift(lambda: False))
        with self.limit.lowered():
            self.assertFalse(self.limit.lift(lambda: False))
            self.assertEqual((64, 1000), self.now)
            self.assertTrue(self.limit.lift(lambda: True))
            self.assertEqual((1000, 1000), self.now)
        with self.limit.lowered():
            self.assertEqual((64, 1000), self.now)

    def test_next_child(self) -> None:
        """A child that was seen does not lift the limit of the next one, which may have begun meanwhile."""
        self.limit.set(64, 1000)
        first, second = self.limit.lowered(), self.limit.lowered()
        first.__enter__()

        def meanwhile() -> bool:
            first.__exit__(None, None, None)
            second.__enter__()
            return True

        self.assertFalse(self.limit.lift(meanwhile))
        self.assertEqual((64, 1000), self.now)
        second.__exit__(None, None, None)


class LiftTests(SynchronousTestCase):
    def test_unknown(self) -> None:
        """Where the thread's children cannot be read, as without a free descriptor, the limit stays as it is."""
        self.patch(spawn_thread, "_CLONE_SECONDS", 0.0)
        thread = SpawnThread()
        thread.thread_id = -1  # of none
        thread.limit.is_low = True
        self.assertFalse(thread.lift_limit())
