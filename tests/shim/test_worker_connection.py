"""The shim's end of the connection to the worker. Real sockets in a directory of the test's own."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from txworker.shim.events import Events
from txworker.shim.messages import Channel, Message
from txworker.shim.worker_connection import WorkerConnection


class WorkerConnectionTests(SynchronousTestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.path = str(Path(directory.name) / "socket")
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener.bind(self.path)
        listener.listen()
        self.addCleanup(listener.close)
        self.events = Events()
        self.addCleanup(self.events.close)
        self.received: list[Message] = []
        self.lost = 0
        self.lift = lambda: False
        self.connection = WorkerConnection(
            self.events,
            listener,
            lambda message, descriptors: self.received.append(message),
            self.lose,
            lambda: self.lift(),
        )
        self.addCleanup(self.connection.close)

    def lose(self) -> None:
        self.lost += 1

    def connect(self) -> Channel:
        worker = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.addCleanup(worker.close)
        worker.connect(self.path)
        worker.setblocking(False)
        self.events.wait(0)
        return Channel(worker)

    def test_both_ways(self) -> None:
        """Messages go both ways; without a worker they are dropped."""
        self.connection.send({"type": "dropped"})
        worker = self.connect()
        worker.send({"type": "hello"})
        self.events.wait(0)
        self.connection.send({"type": "answer"})
        self.assertEqual(([{"type": "hello"}], ({"type": "answer"}, [])), (self.received, worker.receive()))

    @contextlib.contextmanager
    def no_number_free(self) -> Iterator[Callable[[], bool]]:
        """Inside no new descriptor can be made, until the yielded function has been called."""
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        os.close(lowest := os.dup(0))

        def lift() -> bool:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
            return True

        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, before[1]))
        try:
            yield lift
        finally:
            lift()

    def test_limit_lifted(self) -> None:
        """A worker that comes when no number is free, because a child is being started, lifts the limit."""
        worker = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.addCleanup(worker.close)
        worker.connect(self.path)
        with self.no_number_free() as self.lift:
            self.events.wait(0)
            self.assertTrue(self.connection.is_open)

    def test_no_number_free(self) -> None:
        """When no number is free at all, a worker waits until there is one."""
        rests: list[float] = []
        self.patch(time, "sleep", rests.append)
        worker = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.addCleanup(worker.close)
        worker.connect(self.path)
        with self.no_number_free():
            self.events.wait(0)
        self.assertEqual((False, 1), (self.connection.is_open, len(rests)))
        self.events.wait(0)
        self.assertTrue(self.connection.is_open)

    def test_newest_counts(self) -> None:
        """A second worker replaces the first, whose connection is closed."""
        first = self.connect()
        second = self.connect()
        self.assertRaises(ConnectionResetError, first.receive)
        self.connection.send({"type": "to the second"})
        self.assertEqual(({"type": "to the second"}, []), second.receive())
        self.assertEqual((1, True), (self.lost, self.connection.is_open))

    def test_worker_ends(self) -> None:
        """lost() is called once when the worker has gone."""
        self.connect().close()
        self.events.wait(0)
        self.connection.send({"type": "too late"})
        self.assertEqual((1, False), (self.lost, self.connection.is_open))

    def test_full(self) -> None:
        """What the socket has no room for is sent, in order, when the worker reads."""
        worker = self.connect()
        for number in range(2000):
            self.connection.send({"type": "number", "number": number, "text": "x" * 1000})
        numbers: list[int] = []
        for _ in range(2000):
            with contextlib.suppress(BlockingIOError):
                while True:
                    numbers.append(worker.receive()[0]["number"])
            self.events.wait(0)
        self.assertEqual(list(range(2000)), numbers)

    def test_listen_at(self) -> None:
        """Workers connect to the new socket, and no longer to the old one; the connected worker stays."""
        worker, old = self.connect(), self.path
        self.path += "2"
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener.bind(self.path)
        self.connection.listen_at(listener)
        self.connection.send({"type": "still here"})
        self.assertEqual(({"type": "still here"}, []), worker.receive())
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as other:
            self.assertRaises(ConnectionRefusedError, other.connect, old)
        self.connect()
        self.assertEqual((1, True), (self.lost, self.connection.is_open))

    def test_refuse(self) -> None:
        """After refuse() no worker can connect."""
        worker = self.connect()
        self.connection.refuse()
        self.assertRaises(ConnectionResetError, worker.receive)
        self.assertRaises(ConnectionRefusedError, self.connect)

    def test_no_memory(self) -> None:
        """For want of memory to receive, no worker is disconnected: it would take its jobs for lost."""
        worker = self.connect()
        worker.send({"type": "a"})
        real = socket.socket.recvmsg

        def refuse(*args: Any) -> None:
            raise OSError(errno.ENOMEM, "no memory")

        self.patch(socket.socket, "recvmsg", refuse)
        self.assertRaises(OSError, self.events.wait, 0)
        self.patch(socket.socket, "recvmsg", real)
        self.events.wait(0)
        self.assertEqual(([{"type": "a"}], 0, True), (self.received, self.lost, self.connection.is_open))
