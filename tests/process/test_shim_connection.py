"""Requests to the shim and its reports: how many, in which order, which are recalled. Real sockets, no shim."""

from __future__ import annotations

import contextlib
import os
import socket
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.support.readers import FakeReaders
from txworker.process.shim_connection import IN_FLIGHT, RECALL_SECONDS, ShimConnection, SpawnRequest
from txworker.shim.messages import RECALLED, Channel, Message

EXIT = {"exit_code": 0, "signal": None}


class FakeChild:
    """Records how it exited."""

    def __init__(self) -> None:
        self.exits: list[Message] = []
        self.reports: list[Message] = []

    def exited(self, how: Message) -> None:
        self.exits.append(how)

    def fed(self, stdin: Message) -> None:
        self.reports.append(stdin)


def a_channel() -> tuple[Channel, Channel]:
    """Both ends of a channel."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (ours, theirs):
        end.setblocking(False)
    return Channel(ours), Channel(theirs)


class ShimLinkTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.channel, self.shim = a_channel()
        self.readers = FakeReaders()
        self.lost = 0
        self.checked: list[str] = []
        self.refused: dict[str, Exception] = {}
        self.began: dict[str, tuple[int, list[int]]] = {}
        self.failed: dict[str, Exception] = {}
        self.children: dict[str, FakeChild] = {}
        readers: Any = self.readers
        self.connection = ShimConnection(readers, self.channel, 1, 2, self.ended)
        self.addCleanup(self.shim.close)
        self.addCleanup(self.connection.close)

    def ended(self, unanswered: list[str]) -> None:
        self.lost += 1
        self.unanswered = unanswered

    def start(self, *job_ids: str, descriptors: tuple[int, ...] = ()) -> None:
        for job_id in job_ids:
            self.connection.spawn(self.a_start(job_id, descriptors))

    def a_start(self, job_id: str, descriptors: tuple[int, ...]) -> SpawnRequest:
        def check() -> None:
            self.checked.append(job_id)
            if job_id in self.refused:
                raise self.refused[job_id]

        def began(pid: int, pipes: Any, report: Any) -> FakeChild:
            self.began[job_id] = pid, list(pipes)
            self.children[job_id] = FakeChild()
            return self.children[job_id]

        def failed(error: Exception) -> None:
            self.assertNotIn(job_id, {**self.began, **self.failed})
            self.failed[job_id] = error

        return SpawnRequest({"type": "spawn", "job": job_id}, descriptors, check, began, failed)

    def received(self) -> list[str]:
        """What the shim's end has received: of `spawn` the job's id, of other messages the type."""
        found: list[str] = []
        while True:
            try:
                message, descriptors = self.shim.receive()
            except BlockingIOError:
                return found
            for fd in descriptors:
                os.close(fd)
            found.append(message["job"] if message["type"] == "spawn" else message["type"])

    def answer(self, kind: str, job_id: str, descriptors: tuple[int, ...] = (), **more: Any) -> None:
        self.shim.send({"type": kind, "job": job_id, **more}, descriptors)
        self.connection.doRead()

    def started(self, job_id: str) -> None:
        self.answer("started", job_id, pid=77, at=5.0)

    def recalled(self, job_id: str) -> None:
        self.answer("failed", job_id, errno=1, step=RECALLED)

    def test_started(self) -> None:
        """A spawn request is answered with the process and its pipes; later its exit is reported to that process."""
        with open(os.devnull) as given:
            self.start("a", descriptors=(given.fileno(),))
            self.assertEqual(["a"], self.received())
            self.answer("started", "a", (given.fileno(),), pid=77, at=5.0)
        pid, (pipe,) = self.began["a"]
        self.assertEqual(77, pid)
        os.close(pipe)
        self.answer("exited", "a", exit=EXIT)
        self.assertEqual([EXIT], self.children["a"].exits)

    def test_failed(self) -> None:
        """Or it is answered with an error, whose filename is the step that failed."""
        self.start("a", "b")
        self.answer("failed", "a", errno=2, step="prog")
        self.answer("failed", "b", errno=24, step="")
        first, second = self.failed["a"], self.failed["b"]
        assert isinstance(first, OSError)
        assert isinstance(second, OSError)
        self.assertEqual((2, "prog"), (first.errno, first.filename))
        self.assertEqual((24, None), (second.errno, second.filename))

    def test_in_flight(self) -> None:
        """The number of requests in flight is limited; the next one is checked and sent after an answer."""
        names = [f"job-{number}" for number in range(IN_FLIGHT + 2)]
        self.start(*names)
        self.assertEqual(names[:IN_FLIGHT], self.received())
        self.assertEqual(names[:IN_FLIGHT], self.checked)
        self.started(names[0])
        self.assertEqual([names[IN_FLIGHT]], self.received())
        self.answer("failed", names[1], errno=2, step="")
        self.assertEqual([names[IN_FLIGHT + 1]], self.received())

    def test_not_wanted(self) -> None:
        """What check() raises is what the start fails with, a moment later; nothing is sent to the shim."""
        self.refused["a"] = ValueError("not wanted")
        self.start("a", "b")
        self.assertEqual({}, self.failed)
        self.readers.clock.advance(0)
        self.assertEqual(({"a": self.refused["a"]}, ["b"]), (self.failed, self.received()))

    def test_recall(self) -> None:
        """Requests behind a start that hangs are recalled, and checked again when that start is answered."""
        self.start("hangs", "b", "c")
        self.received()
        self.readers.clock.advance(RECALL_SECONDS)
        self.start("d")
        self.assertEqual(["recall"], self.received())
        self.refused["c"] = ValueError("its caller is gone")
        self.checked.clear()
        self.started("hangs")
        for job_id in ("b", "c"):
            self.recalled(job_id)
        self.readers.clock.advance(0)
        self.assertEqual(["d", "b", "c"], self.checked)
        self.assertEqual((["d", "b"], ["c"]), (self.received(), list(self.failed)))

    def test_nothing_goes_to_one_that_hangs(self) -> None:
        """While a single start hangs nothing is recalled, and new requests wait in the worker."""
        self.start("hangs")
        self.received()
        self.readers.clock.advance(10 * RECALL_SECONDS)
        self.start("b")
        self.assertEqual([], self.received())
        self.started("hangs")
        self.assertEqual(["b"], self.received())

    def test_answers_in_time(self) -> None:
        """Nothing is recalled while each answer comes in time."""
        self.start("a", "b")
        for _ in range(3):
            self.readers.clock.advance(0.9 * RECALL_SECONDS)
            self.start("c")
            self.started("c")
        self.assertNotIn("recall", self.received())

    def test_order_of_messages(self) -> None:
        """Messages arrive in the order in which they were sent."""
        self.connection.enforce("a", "asked", 5.0)
        self.connection.release("a", keep=True)
        self.assertEqual(["enforce", "release"], self.received())

    def releases(self) -> list[list[str]]:
        """The jobs that each received message releases."""
        found: list[list[str]] = []
        with contextlib.suppress(BlockingIOError, ConnectionResetError):
            while True:
                message, _ = self.shim.receive()
                found.append(message["jobs"] if message["type"] == "release" else message["release"])
        return found

    def test_released_with_a_start(self) -> None:
        """Releases go with the next spawn request, and wake the shim only once."""
        self.connection.release("a", keep=False)
        self.connection.release("b", keep=False)
        self.assertEqual([], self.releases())
        self.start("c", "d")
        self.assertEqual([["a", "b"], []], self.releases())
        self.readers.clock.advance(1.0)
        self.assertNotIn("release", self.received())

    def test_released_without_a_start(self) -> None:
        """Without a spawn request releases are sent a moment later."""
        self.connection.release("a", keep=False)
        self.connection.release("b", keep=False)
        self.readers.clock.advance(0.01)
        self.assertEqual([["a", "b"]], self.releases())

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

    def test_answer_to_nothing(self) -> None:
        """The descriptors of a process that was not requested are closed."""
        reading, writing = os.pipe()
        self.answer("started", "unknown", (reading,), pid=77, at=5.0)
        os.close(reading)
        self.assertRaises(BrokenPipeError, os.write, writing, b"x")
        os.close(writing)

    def test_shim_ends(self) -> None:
        """When the shim ends, all starts fail; then lost() is called, once, with those that the shim had."""
        names = [f"job-{number}" for number in range(IN_FLIGHT + 2)]
        self.start(*names)
        self.shim.close()
        self.connection.doRead()
        self.assertEqual((names, 1), (list(self.failed), self.lost))
        self.assertEqual(names[:IN_FLIGHT], self.unanswered)
        self.connection.doRead()
        self.assertEqual(([], 1), (self.readers.readers, self.lost))
        self.assertEqual([], self.readers.clock.getDelayedCalls())

    def test_ends_while_a_message_is_sent(self) -> None:
        """Sending to a shim that has ended raises nothing; lost() is called when the connection is read."""
        self.shim.close()
        self.connection.release("a", keep=False)
        self.start("b")
        self.assertEqual(0, self.lost)
        self.connection.doRead()
        self.assertEqual(1, self.lost)
        self.readers.clock.advance(0)
        self.assertEqual({"b": "shim"}, {name: error.filename for name, error in self.failed.items()})  # type: ignore[attr-defined]

    def test_closed(self) -> None:
        """When the worker leaves, pending starts fail, and nothing more is received."""
        self.start("a")
        self.connection.close()
        self.assertEqual((["a"], 0), (list(self.failed), self.lost))
        self.assertEqual(([], []), (self.readers.readers, self.readers.clock.getDelayedCalls()))

    def test_started_when_closed(self) -> None:
        """A start after the end of the shim fails at once."""
        self.shim.close()
        self.connection.doRead()
        self.start("late")
        self.readers.clock.advance(0)
        self.assertEqual(["late"], list(self.failed))

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
