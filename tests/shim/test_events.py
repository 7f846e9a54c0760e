"""Waiting for many descriptors. Real pipes and a real epoll set."""

from __future__ import annotations

import errno
import os

from twisted.trial.unittest import SynchronousTestCase

from tests.support.epoll import FailingEpoll
from txworker.shim.events import Events


class EventsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.failures = 0
        self.called: list[str] = []
        self.events = Events(self.failed)
        self.addCleanup(self.events.close)

    def failed(self) -> None:
        self.failures += 1

    def readable(self) -> int:
        """A descriptor that can be read."""
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        os.write(writing, b"x")
        os.close(writing)
        return reading

    def test_one_fails(self) -> None:
        """When one of the calls fails, that is reported, and the others are made all the same."""

        def fail() -> None:
            self.called.append("fails")
            raise OSError(errno.EIO, "it fails")

        self.events.watch(self.readable(), fail)
        self.events.watch(self.readable(), lambda: self.called.append("works"))
        self.events.wait(0)
        self.assertEqual((["fails", "works"], 1), (sorted(self.called), self.failures))

    def test_cannot_unwatch(self) -> None:
        """A descriptor that the kernel goes on reporting is not called, and is given up at its next event."""
        fd = self.readable()
        self.events.watch(fd, lambda: self.called.append("late"))
        self.events._epoll = epoll = FailingEpoll(self.events._epoll, 1)  # type: ignore[assignment]
        self.events.unwatch(fd)
        self.events.wait(0)
        self.assertEqual(([], [], 0), (self.called, epoll.poll(0), self.failures))
