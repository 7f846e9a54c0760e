"""A child as it is watched from the beginning; on made-up readers, with real descriptors and no child."""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.protocol import ProcessProtocol
from twisted.trial.unittest import SynchronousTestCase

from txworker.process.transport import ChildTransport


class FakeReaders:
    """Takes so many readers and no more."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.readers: list[Any] = []

    def addReader(self, reader: Any) -> None:
        if len(self.readers) >= self.room:
            raise OSError(28, "No space left on device")
        self.readers.append(reader)

    def callLater(self, delay: float, callable: Any, *args: Any) -> None:
        raise NotImplementedError

    def removeReader(self, reader: Any) -> None:
        if reader in self.readers:
            self.readers.remove(reader)


def pidfds() -> int:
    """How many this process has."""
    numbers = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
    return sum("pidfd" in os.readlink(number) for number in numbers if os.path.lexists(number))


class ChildTransportTests(SynchronousTestCase):
    def test_cannot_be_watched(self) -> None:
        """Wherever the room for watching ends, nothing of it is left, and the pipes are still the caller's."""
        pipes = {1: os.pipe(), 2: os.pipe()}
        for fds in pipes.values():
            for fd in fds:
                self.addCleanup(os.close, fd)
        before = pidfds()
        for room in range(3):
            readers: Any = FakeReaders(room)
            transport = ChildTransport(readers, ProcessProtocol())
            with self.assertRaises(OSError):
                transport.begin(os.getpid(), {child_fd: fds[0] for child_fd, fds in pipes.items()})
            self.assertEqual(([], before), (readers.readers, pidfds()))
            for fds in pipes.values():
                os.fstat(fds[0])
