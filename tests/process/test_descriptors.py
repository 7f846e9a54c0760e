"""The limit of open descriptors, on a made-up kernel."""

from __future__ import annotations

import os
import resource
import threading
from unittest.mock import patch

from twisted.trial.unittest import SynchronousTestCase

from txworker.process import descriptors
from txworker.process.descriptors import DescriptorLimit


class DescriptorTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.now = (100, 4000)
        self.patch(resource, "getrlimit", lambda number: self.now)
        self.patch(resource, "setrlimit", lambda number, limits: setattr(self, "now", limits))

    def test_raised(self) -> None:
        """The worker's own becomes the hard one; children get the original, also when a launch fails."""
        limit = DescriptorLimit()
        self.assertEqual((4000, 4000), self.now)
        with limit.original_for_children():
            self.assertEqual((100, 4000), self.now)
        with self.assertRaises(OSError), limit.original_for_children():
            raise OSError
        self.assertEqual((4000, 4000), self.now)

    def test_nothing_to_raise(self) -> None:
        """Where soft and hard are the same nothing is set for a launch."""
        self.now = (4000, 4000)
        limit = DescriptorLimit()
        self.patch(resource, "setrlimit", lambda number, limits: self.fail("set"))
        with limit.original_for_children():
            pass

    def test_moved_up(self) -> None:
        """What is held for long is moved out of the way once half of the lower numbers are taken."""
        fd = os.open(os.devnull, os.O_RDONLY)
        self.now = (1000, 4000)
        self.assertEqual(fd, DescriptorLimit().moved_up(fd))
        self.now = (2 * fd, 4000)
        high = DescriptorLimit().moved_up(fd)
        self.addCleanup(os.close, high)
        self.assertGreaterEqual(high, 2 * fd)
        self.assertRaises(OSError, os.fstat, fd)
        self.assertFalse(os.get_inheritable(high))

    def test_crowded(self) -> None:
        """It is crowded while new numbers are in the last quarter below the lower limit, if there is one."""
        limit = DescriptorLimit()
        found = []
        with patch("fcntl.fcntl", side_effect=OSError(22, "Invalid argument")):
            for fd in (74, 75, 99, 40, 200):
                limit.moved_up(fd)
                found.append(limit.crowded)
        self.assertEqual([False, True, True, False, True], found)
        self.now = (100, 100)
        limit = DescriptorLimit()
        limit.moved_up(99)
        self.assertFalse(limit.crowded)

    def test_no_room_above(self) -> None:
        """Where there is no room it stays where it is."""
        self.now = (2, 4000)
        limit = DescriptorLimit()
        with patch("fcntl.fcntl", side_effect=OSError(22, "Invalid argument")):
            self.assertEqual(7, limit.moved_up(7))

    def test_moved_between_launches(self) -> None:
        """While the limit is lowered there is no room above: who wants to move waits for the launch, within limits."""
        self.now = (2, 4000)
        limit = DescriptorLimit()
        launched, moved = threading.Event(), threading.Event()

        def move() -> None:
            launched.set()
            if limit.moved_up(7) == 3000:
                moved.set()

        with patch("fcntl.fcntl", return_value=3000), patch("os.close"):
            with limit.original_for_children():
                mover = threading.Thread(target=move)
                mover.start()
                self.assertTrue(launched.wait(5))
                self.assertFalse(moved.is_set())
            mover.join(5)
            self.assertTrue(moved.is_set())
            with patch.object(descriptors, "LOWERED_SECONDS", 0), limit.original_for_children():
                self.assertEqual(7, limit.moved_up(7))

    def test_for_connections(self) -> None:
        """Half of what the worker has not itself, within bounds."""
        table = [(64, 8), (256, 96), (1024, 480), (65536, 10_000), (resource.RLIM_INFINITY, 10_000)]
        for hard, wanted in table:
            self.now = (64, hard)
            self.assertEqual(wanted, DescriptorLimit().for_connections)

    def test_scarce(self) -> None:
        """When three quarters are taken, or all."""
        fd = os.open(os.devnull, os.O_RDONLY)
        os.close(fd)
        found = []
        for hard in (fd, fd + 1, 2 * fd, 4000):
            self.now = (hard, hard)
            found.append(DescriptorLimit().scarce())
        with patch("os.open", side_effect=OSError(24, "Too many open files")):
            found.append(DescriptorLimit().scarce())
        self.assertEqual([True, True, False, False, True], found)
