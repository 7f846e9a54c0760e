"""The limit of open descriptors, with a fake getrlimit and setrlimit."""

from __future__ import annotations

import os
import resource
from unittest.mock import patch

from twisted.trial.unittest import SynchronousTestCase

from txworker.daemon.descriptors import DescriptorLimit


class DescriptorTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.now = (100, 4000)
        self.patch(resource, "getrlimit", lambda number: self.now)
        self.patch(resource, "setrlimit", lambda number, limits: setattr(self, "now", limits))

    def test_raised(self) -> None:
        """The soft limit becomes the hard limit; jobs get what it was before."""
        limit = DescriptorLimit()
        self.assertEqual(((4000, 4000), (100, 4000)), (self.now, limit.original))

    def test_for_connections(self) -> None:
        """Half of what the worker itself does not need, within bounds."""
        table = [(64, 8), (256, 96), (1024, 480), (65536, 10_000), (resource.RLIM_INFINITY, 10_000)]
        for hard, wanted in table:
            self.now = (64, hard)
            self.assertEqual(wanted, DescriptorLimit().for_connections)

    def test_scarce(self) -> None:
        """True when three quarters are in use, or all."""
        fd = os.open(os.devnull, os.O_RDONLY)
        os.close(fd)
        found = []
        for hard in (fd, fd + 1, 2 * fd, 4000):
            self.now = (hard, hard)
            found.append(DescriptorLimit().scarce())
        with patch("os.open", side_effect=OSError(24, "Too many open files")):
            found.append(DescriptorLimit().scarce())
        self.assertEqual([True, True, False, False, True], found)
