"""The requests of the worker that is connected. Real sockets; the threads of the shim are this one, in turn."""

from __future__ import annotations

import errno
import os
import socket
import time
from contextlib import closing
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.support.descriptors import free_descriptors, open_descriptors
from txworker.shim.messages import RECALLED, Channel
from txworker.shim.requests import Requests

LONG = "x" * 100_000


class RequestsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.before = open_descriptors()
        self.requests = Requests()
        self.worker = self.connect()

    def connect(self) -> Channel:
        """A worker's end of a new connection, of which the spawn thread has the other."""
        theirs, ours, number = self.requests.connect()
        self.requests.attach(number, ours)
        theirs.setblocking(False)
        return Channel(theirs)

    def request(self, *job_ids: str) -> None:
        for job_id in job_ids:
            self.worker.send({"type": "spawn", "job": job_id})

    def begun(self) -> str | None:
        """The job of the next request."""
        begun = self.requests.begin()
        return None if begun is None else str(begun[0]["job"])

    def test_in_order(self) -> None:
        """Requests are begun in their order and answered where they came from; `starting` is the one that is begun."""
        self.request("a", "b")
        self.assertEqual("a", self.begun())
        self.assertEqual("a", self.requests.starting)
        self.requests.answer({"type": "started", "job": "a"})
        self.requests.end()
        self.assertEqual("", self.requests.starting)
        self.assertEqual(({"type": "started", "job": "a"}, []), self.worker.receive())
        self.assertEqual(["b", None], [self.begun(), self.begun()])

    def test_descriptors(self) -> None:
        """The descriptors of a request come with it."""
        reading, writing = os.pipe()
        self.worker.send({"type": "spawn", "job": "a"}, [writing])
        os.close(writing)
        begun = self.requests.begin()
        assert begun is not None
        os.write(begun[1][0], b"x")
        self.assertEqual(b"x", os.read(reading, 9))
        for fd in (reading, *begun[1]):
            os.close(fd)

    def test_lost(self) -> None:
        """A long request for which no descriptor is free is refused; the next one is begun."""
        self.worker.send({"type": "spawn", "job": "a", "argv": [LONG]})
        self.request("b")
        with free_descriptors(0):
            self.assertIsNone(self.begun())
        failed = {"type": "failed", "job": "", "errno": errno.EMFILE, "step": ""}
        self.assertEqual((failed, []), self.worker.receive())
        self.assertEqual("b", self.begun())

    def test_no_descriptor_to_recall(self) -> None:
        """What cannot be received is not recalled, and not lost: it is begun in its turn."""
        self.worker.send({"type": "spawn", "job": "a", "argv": [LONG]})
        with free_descriptors(0):
            self.requests.recall()
        self.assertEqual("a", self.begun())

    def test_lost_with_its_worker(self) -> None:
        """It is not started; those behind it are."""
        self.worker.send({"type": "spawn", "job": "a", "argv": [LONG]})
        self.request("b")
        with free_descriptors(0):
            self.assertEqual(["b"], [message["job"] for message, _ in self.requests.disconnect()])

    def test_recall(self) -> None:
        """What is not begun is answered at once, while a start hangs."""
        self.request("hangs", "a", "b")
        self.begun()
        self.requests.recall()
        answers = [self.worker.receive()[0] for _ in range(2)]
        self.assertEqual([("a", RECALLED), ("b", RECALLED)], [(answer["job"], answer["step"]) for answer in answers])
        self.assertEqual((None, "hangs"), (self.begun(), self.requests.starting))

    def test_worker_has_gone(self) -> None:
        """What it requested and was not begun is returned, with its descriptors; the start under way goes on."""
        self.request("a")
        with closing(socket.socket()) as given:
            self.worker.send({"type": "spawn", "job": "b"}, [given.fileno()])
        self.begun()
        self.worker.close()
        ((left, (descriptor,)),) = self.requests.disconnect()
        os.close(descriptor)
        self.assertEqual(("a", "b"), (self.requests.starting, left["job"]))
        self.requests.answer({"type": "started", "job": "a"})
        self.requests.end()
        self.assertEqual("", self.requests.starting)
        self.assertRaises(ConnectionError, self.requests.begin)
        self.requests.detach()
        self.assertEqual(set(), open_descriptors() - self.before)

    def test_next_worker(self) -> None:
        """The next worker's requests count; an earlier one's do not, even before the thread sees its end."""
        self.request("old")
        earlier = self.worker
        theirs, ours, number = self.requests.connect()
        self.assertRaises(ConnectionError, self.requests.begin)
        self.requests.attach(number, ours)
        self.worker = Channel(theirs)
        self.request("new")
        self.assertEqual("new", self.begun())
        self.assertRaises(ConnectionError, earlier.receive)

    def test_without_a_worker(self) -> None:
        """Before a worker connects, and after it has gone, there is nothing to recall or to drop."""
        requests = Requests()
        requests.recall()
        self.assertEqual(([], None), (requests.disconnect(), requests.detach()))

    def test_no_memory(self) -> None:
        """While the kernel lacks memory for an answer, it is tried again: the worker waits for one."""
        tries: list[float] = []
        real = socket.socket.send

        def refuse(*args: Any) -> int:
            raise OSError(errno.ENOBUFS, "no memory")

        def sleep(seconds: float) -> None:
            tries.append(seconds)
            if len(tries) == 3:
                self.patch(socket.socket, "send", real)

        self.patch(time, "sleep", sleep)
        self.request("a")
        self.begun()
        self.patch(socket.socket, "send", refuse)
        self.requests.answer({"type": "failed", "job": "a"})
        self.assertEqual((({"type": "failed", "job": "a"}, []), 3), (self.worker.receive(), len(tries)))
