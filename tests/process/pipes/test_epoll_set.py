"""Many descriptors that the reactor watches as one. Real pipes and a real epoll set, a fake reactor."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any
from unittest import mock

from twisted.internet.interfaces import IReadDescriptor
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.support.epoll import FailingEpoll
from txworker.linux.cpus import CpuPinning
from txworker.process.pipes.epoll_set import EpollSet


class FakeReactor:
    """Records what it watches."""

    def __init__(self) -> None:
        self.readers: list[Any] = []
        self.addReader, self.removeReader = self.readers.append, self.readers.remove
        self.callFromThread = self.callLater = None


class Reader:
    """Reads one byte at a time, adds itself to `reads`, and calls then()."""

    def __init__(self, fd: int, reads: list[Reader], then: Callable[[], object] = lambda: None) -> None:
        self.fd = fd
        self.reads = reads
        self.then = then

    def fileno(self) -> int:
        return self.fd

    def doRead(self) -> None:
        self.reads.append(self)
        try:
            os.read(self.fd, 1)
        except BlockingIOError:
            return
        self.then()


def fail() -> None:
    raise ValueError("a mistake")


class PollerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = FakeReactor()
        self.epoll_set = EpollSet(self.reactor, CpuPinning(pin=False))
        self.reads: list[Reader] = []
        self.open: set[int] = set()

    def tearDown(self) -> None:
        for fd in list(self.open):
            self.close(fd)

    def a_reader(self, data: bytes = b"", then: Callable[[], object] = lambda: None) -> Reader:
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        os.write(writing, data)
        self.open |= {reading, writing}
        reader = Reader(reading, self.reads, then)
        self.epoll_set.addReader(reader)
        return reader

    def close(self, fd: int) -> None:
        self.open.remove(fd)
        os.close(fd)

    def test_one(self) -> None:
        """The reactor watches one descriptor, whatever is added, until close()."""
        verifyObject(IReadDescriptor, self.epoll_set)
        reader = self.a_reader(b"ab")
        self.a_reader()
        self.epoll_set.addReader(reader)
        self.epoll_set.doRead()
        self.assertEqual(([self.epoll_set], [reader]), (self.reactor.readers, self.reads))
        self.epoll_set.removeReader(reader)
        self.epoll_set.removeReader(reader)
        self.epoll_set.doRead()
        self.assertEqual([reader], self.reads)
        self.epoll_set.close()
        self.assertEqual([], self.reactor.readers)

    def test_hang_up(self) -> None:
        """doRead() is called when the other end is closed."""
        reader = self.a_reader()
        self.close(max(self.open))
        self.epoll_set.doRead()
        self.assertEqual([reader], self.reads)

    def test_mistake(self) -> None:
        """A reader that raises is removed; all others are read, in the same turn too."""
        wrong = self.a_reader(b"abc", fail)
        right = [self.a_reader(b"abc") for _ in range(2)]
        for _ in range(3):
            self.epoll_set.doRead()
        self.assertEqual(1, self.reads.count(wrong))
        self.assertEqual([3, 3], [self.reads.count(one) for one in right])
        self.assertEqual(1, len(self.flushLoggedErrors(ValueError)))

    def test_no_room(self) -> None:
        """That the kernel watches no more descriptors does not look like a full disk."""
        epoll = self.epoll_set._epoll
        self.epoll_set._epoll = mock.Mock(wraps=epoll)
        self.epoll_set._epoll.register.side_effect = OSError(errno.ENOSPC, "No space left on device")
        error = self.assertRaises(OSError, self.a_reader)
        self.assertEqual(errno.ENOMEM, error.errno)

    def test_cannot_remove(self) -> None:
        """A removed descriptor that the kernel goes on reporting is not read, and is given up at its next event."""
        reader = self.a_reader(b"a")
        epoll = self.epoll_set._epoll
        self.epoll_set._epoll = FailingEpoll(epoll, 1)  # type: ignore[assignment]
        self.epoll_set.removeReader(reader)
        self.epoll_set.doRead()
        self.assertEqual(([], []), (self.reads, epoll.poll(0)))

    def test_removed_meanwhile(self) -> None:
        """A reader that was removed in the same turn is not called, though it was ready."""
        readers = [self.a_reader(b"a") for _ in range(2)]
        for one, other in (readers, reversed(readers)):
            one.then = lambda other=other: self.epoll_set.removeReader(other)  # type: ignore[misc]
        self.epoll_set.doRead()
        self.assertEqual(1, len(self.reads))

    def test_number_given_away(self) -> None:
        """A reader with the descriptor number of one that was removed in the same turn may be called too early."""
        readers = [self.a_reader(b"a") for _ in range(2)]
        heirs: list[tuple[Reader, int]] = []

        def give_away(other: Reader) -> None:
            self.epoll_set.removeReader(other)
            reading, writing = os.pipe()
            os.dup2(reading, other.fd)
            os.set_blocking(other.fd, False)
            os.close(reading)
            self.open.add(writing)
            heirs.append((Reader(other.fd, self.reads), writing))
            self.epoll_set.addReader(heirs[0][0])

        for one, other in (readers, reversed(readers)):
            one.then = lambda other=other: give_away(other)  # type: ignore[misc]
        self.epoll_set.doRead()
        heir, writing = heirs[0]
        self.assertEqual([heir], self.reads[1:])
        os.write(writing, b"b")
        self.epoll_set.doRead()
        self.assertEqual([heir, heir], self.reads[1:])

    def test_more_than_one_turn(self) -> None:
        """When many are ready, some wait for the next turn, and none waits for ever."""
        self.epoll_set.close()
        self.epoll_set = EpollSet(self.reactor, CpuPinning(pin=False), events_per_turn=3)
        readers = [self.a_reader(b"abc") for _ in range(10)]
        self.epoll_set.doRead()
        self.assertEqual(3, len(self.reads))
        for _ in range(9):
            self.epoll_set.doRead()
        self.assertEqual([3] * 10, [self.reads.count(reader) for reader in readers])
