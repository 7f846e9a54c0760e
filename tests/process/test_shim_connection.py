"""What a worker and its shim tell each other of jobs. Real sockets, no shim."""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from itertools import chain
from signal import SIGKILL
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.support.channels import FakeChild, a_channel, a_poor_channel
from tests.support.descriptors import free_descriptors
from tests.support.readers import FakeReaders
from txworker.process.shim_connection import ShimConnection
from txworker.process.spawn_queue import RECALL_SECONDS, SpawnRequest

EXIT = {"exit_code": 0, "signal": None}


class ShimConnectionTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.channel, self.socket, self.shim = a_poor_channel()
        requests, self.thread = a_channel()
        self.readers = FakeReaders()
        self.lost = 0
        self.child = FakeChild()
        self.failed: list[Exception] = []
        readers: Any = self.readers
        self.connection = ShimConnection(readers, self.channel, requests, 1, 2, self.ended, [0])
        self.addCleanup(self.thread.close)
        self.addCleanup(self.shim.close)
        self.addCleanup(self.connection.close)

    def ended(self, unanswered: list[str]) -> None:
        self.lost += 1
        self.unanswered = unanswered

    def start(self, *job_ids: str) -> None:
        for job_id in job_ids:
            message = {"type": "spawn", "job": job_id}
            self.connection.spawn(
                SpawnRequest(message, (), lambda: None, lambda pid, pipes, report: self.child, self.failed.append)
            )

    def answered(self, job_id: str) -> None:
        """The spawn thread has started that job's process."""
        self.thread.send({"type": "started", "job": job_id, "pid": 77, "at": 5.0})
        self.readers.read()

    def received(self) -> list[str]:
        """The types of the messages that the loop's end has received."""
        found: list[str] = []
        while True:
            try:
                message, descriptors = self.shim.receive()
            except BlockingIOError:
                return found
            for fd in descriptors:
                os.close(fd)
            found.append(message["type"])

    def answer(self, kind: str, job_id: str, descriptors: tuple[int, ...] = (), **more: Any) -> None:
        self.shim.send({"type": kind, "job": job_id, **more}, descriptors)
        self.readers.read()

    def test_exit(self) -> None:
        """The exit of a process is reported to it."""
        self.start("a")
        self.answered("a")
        self.answer("exited", "a", exit=EXIT)
        self.assertEqual([EXIT], self.child.exits)

    def test_no_memory(self) -> None:
        """While the kernel lacks memory for messages, the shim has not ended: they are sent and received later."""
        self.start("a")
        self.answered("a")
        self.socket.poor = True
        self.connection.release("b", keep=True)
        self.answer("exited", "a", exit=EXIT)
        self.readers.clock.advance(0.01)
        self.assertEqual((0, [], []), (self.lost, self.child.exits, self.received()))
        self.socket.poor = False
        self.readers.room = 0
        self.readers.clock.advance(0.1)
        self.readers.room = 1000
        self.readers.clock.advance(0.1)
        self.readers.read()
        self.assertEqual((0, [EXIT], ["release"]), (self.lost, self.child.exits, self.received()))

    def test_no_memory_at_the_end(self) -> None:
        """A connection that is closed while the kernel lacks memory leaves no timer behind."""
        self.socket.poor = True
        self.answer("exited", "a", exit=EXIT)
        self.connection.close()
        self.assertEqual([], self.readers.clock.getDelayedCalls())

    def test_exit_before_the_start(self) -> None:
        """What the loop says of a process before the spawn thread says that it was started is told afterwards."""
        self.start("a")
        self.answer("fed", "a", stdin={"taken": 0})
        self.answer("exited", "a", exit=EXIT)
        self.assertEqual([], self.child.exits)
        self.answered("a")
        self.assertEqual(([{"taken": 0}], [EXIT]), (self.child.reports, self.child.exits))

    def test_released_as_it_begins(self) -> None:
        """A process whose pipes could not be watched is not the shim's any more, and is told nothing."""
        released = SpawnRequest(
            {"type": "spawn", "job": "a"}, (), lambda: None, self.release_at_once, self.failed.append
        )
        self.connection.spawn(released)
        self.answer("exited", "a", exit=EXIT)
        self.answered("a")
        self.assertEqual(([], 0), (self.child.exits, self.connection.job_count))

    def release_at_once(self, pid: int, pipes: object, report: object) -> FakeChild:
        self.connection.release("a", keep=False)
        return self.child

    def test_late_start(self) -> None:
        """A job that an earlier worker requested, and that starts after the takeover, is ended and released."""
        killed: list[tuple[int, int]] = []
        self.patch(os, "killpg", lambda pid, number: killed.append((pid, number)))
        reading, writing = os.pipe()
        self.answer("job", "late", (reading,), pid=77)
        os.close(reading)
        self.assertRaises(BrokenPipeError, os.write, writing, b"x")
        os.close(writing)
        self.readers.clock.advance(0.01)
        self.assertEqual(([(77, SIGKILL)], [["late"]]), (killed, self.releases()))

    def test_recall(self) -> None:
        """When a start hangs, the loop is asked to recall those behind it."""
        self.start("hangs", "b")
        self.readers.clock.advance(RECALL_SECONDS)
        self.assertEqual(["recall"], self.received())

    def test_shim_ends(self) -> None:
        """When the shim ends, all starts fail; then lost() is called, once, with those that the shim had."""
        for end in (self.shim, self.thread):
            self.setUp()
            self.start("a", "b")
            (self.shim if end is self.shim else self.thread).close()
            for _ in range(2):
                self.readers.read()
            self.assertEqual((2, 1, ["a", "b"]), (len(self.failed), self.lost, self.unanswered))
            self.assertEqual([], self.readers.readers)
            self.assertEqual([], self.readers.clock.getDelayedCalls())

    def test_processes_of_a_shim_that_ends(self) -> None:
        """The processes are told at once, also while no other shim can be started; not when the worker leaves them."""
        self.start("a")
        self.answered("a")
        self.shim.close()
        self.readers.read()
        self.assertEqual(1, self.child.orphans)

    def test_processes_that_are_left(self) -> None:
        """A worker that disconnects orphans no process."""
        self.start("a")
        self.answered("a")
        self.connection.close()
        self.assertEqual(0, self.child.orphans)

    def test_closed(self) -> None:
        """When the worker leaves, pending starts fail, and nothing more is received."""
        self.start("a")
        self.connection.close()
        self.assertEqual((1, 0), (len(self.failed), self.lost))
        self.assertEqual(([], []), (self.readers.readers, self.readers.clock.getDelayedCalls()))

    def test_order_of_messages(self) -> None:
        """Messages arrive in the order in which they were sent."""
        self.connection.enforce("a", "asked", 5.0)
        self.connection.output_incomplete("a", 1, 5)
        self.connection.release("a", keep=True)
        self.assertEqual(["enforce", "lost", "release"], self.received())

    def releases(self) -> list[list[str]]:
        """The jobs that each received message releases."""
        found: list[list[str]] = []
        with contextlib.suppress(BlockingIOError, ConnectionResetError):
            while True:
                message, _ = self.shim.receive()
                found.append(message["jobs"])
        return found

    def test_released_together(self) -> None:
        """Releases are sent a moment later, those of that moment in one message, which wakes the shim once."""
        self.connection.release("a", keep=False)
        self.connection.release("b", keep=False)
        self.readers.clock.advance(0.01)
        self.assertEqual([["a", "b"]], self.releases())

    def test_thousands_released(self) -> None:
        """So many that one message could not have them all, and no descriptor is free for a longer one."""
        job_ids = [str(uuid.uuid4()) for _ in range(3000)]
        for job_id in job_ids:
            self.connection.release(job_id, keep=False)
        with free_descriptors(0):
            self.readers.clock.advance(0.01)
            self.assertEqual(job_ids, list(chain.from_iterable(self.releases())))

    def test_released_at_the_end(self) -> None:
        """When the worker leaves, pending releases are sent, so that the shim can end."""
        self.connection.release("a", keep=False)
        self.connection.close()
        self.assertEqual([["a"]], self.releases())

    def test_exit_of_others(self) -> None:
        """An exit is reported to the adopted process; after its release to none."""
        child = FakeChild()
        self.connection.adopt("a", child)
        self.answer("exited", "a", exit=EXIT)
        self.connection.release("a", keep=False)
        self.answer("exited", "a", exit=EXIT)
        self.assertEqual([EXIT], child.exits)

    def test_refused(self) -> None:
        """What the shim had no descriptors for can be, or is, sent again."""
        self.shim.send({"type": "refused", "of": "listen"})
        self.shim.send({"type": "refused", "of": "pipes"})
        self.readers.read()
        self.assertTrue(self.connection.listen_refused)
        self.readers.clock.advance(1.0)
        self.connection.listen([0, 0])
        self.assertEqual((["pipes", "listen"], False), (self.received(), self.connection.listen_refused))

    def test_no_descriptors_to_wait_with(self) -> None:
        """A message with descriptors that the full socket does not take now is refused, or it would be lost."""
        while not self.channel.full:
            self.connection.resize("a", 1, 1)
        with free_descriptors(0):
            for send in (lambda: self.connection.feed("a", 0, end=True), lambda: self.connection.listen([0, 0])):
                error = self.assertRaises(OSError, send)
                self.assertEqual(errno.EMFILE, error.errno)

    def test_ends_while_a_message_is_sent(self) -> None:
        """Sending to a shim that has ended raises nothing; lost() is called when the connection is read."""
        self.shim.close()
        self.connection.release("a", keep=True)
        self.assertEqual(0, self.lost)
        self.readers.read()
        self.assertEqual(1, self.lost)

    def test_channel_full(self) -> None:
        """What the socket does not take at once is sent later, in order, and complete."""
        count = 0
        while not self.channel.full:
            self.connection.enforce(f"job-{count}", "asked" * 100, 1.0)
            count += 1
        self.connection.release("last", keep=False)
        self.assertNotEqual([], self.readers.clock.getDelayedCalls())
        got: list[str] = []
        while new := self.received():
            got += new
            self.readers.clock.advance(0.01)
        self.assertEqual(count * ["enforce"] + ["release"], got)
        self.assertEqual([], self.readers.clock.getDelayedCalls())
