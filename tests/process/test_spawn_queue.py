"""Starts that are requested of the shim: how many, in which order, which are recalled. Real sockets, no shim."""

from __future__ import annotations

import errno
import os
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.support.channels import FakeChild, a_poor_channel
from tests.support.readers import FakeReaders
from txworker.process.spawn_queue import CHECK_SECONDS, IN_FLIGHT, RECALL_SECONDS, SpawnQueue, SpawnRequest
from txworker.shim.messages import RECALLED

ENDED = OSError("the shim has ended")


class SpawnQueueTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.channel, self.socket, self.shim = a_poor_channel()
        self.readers = FakeReaders()
        self.lost = self.recalls = 0
        self.checked: list[str] = []
        self.refused: dict[str, Exception] = {}
        self.began: dict[str, tuple[int, list[int]]] = {}
        self.failed: dict[str, Exception] = {}
        self.children: dict[str, Any] = {}
        readers: Any = self.readers
        self.queue = SpawnQueue(readers, self.channel, self.children.__setitem__, self.recall, self.ended)
        self.addCleanup(self.shim.close)
        self.addCleanup(self.queue.close, ENDED)

    def recall(self) -> None:
        self.recalls += 1

    def ended(self) -> None:
        self.lost += 1
        self.queue.close(ENDED)

    def start(self, *job_ids: str, descriptors: tuple[int, ...] = ()) -> None:
        for job_id in job_ids:
            self.queue.put(self.a_start(job_id, descriptors))

    def a_start(self, job_id: str, descriptors: tuple[int, ...]) -> SpawnRequest:
        def check() -> None:
            self.checked.append(job_id)
            if job_id in self.refused:
                raise self.refused[job_id]

        def began(pid: int, pipes: Any, report: Any) -> FakeChild:
            self.began[job_id] = pid, list(pipes)
            return FakeChild()

        def failed(error: Exception) -> None:
            self.assertNotIn(job_id, {**self.began, **self.failed})
            self.failed[job_id] = error

        return SpawnRequest({"type": "spawn", "job": job_id}, descriptors, check, began, failed)

    def received(self) -> list[str]:
        """The ids of the jobs whose requests the shim's end has received."""
        found: list[str] = []
        while True:
            try:
                message, descriptors = self.shim.receive()
            except BlockingIOError:
                return found
            for fd in descriptors:
                os.close(fd)
            found.append(message["job"])

    def test_lost_request(self) -> None:
        """An answer that names no job is that of the first request that is not answered; the others go on."""
        self.start("a", "b")
        self.answer("failed", "", errno=errno.EMFILE, step="")
        self.answer("started", "b", pid=7)
        self.assertEqual((["a"], ["b"]), (list(self.failed), list(self.began)))
        error = self.failed["a"]
        assert isinstance(error, OSError)
        self.assertEqual(errno.EMFILE, error.errno)

    def answer(self, kind: str, job_id: str, descriptors: tuple[int, ...] = (), **more: Any) -> None:
        self.shim.send({"type": kind, "job": job_id, **more}, descriptors)
        self.readers.read()

    def started(self, job_id: str) -> None:
        self.answer("started", job_id, pid=77, at=5.0)

    def recalled(self, job_id: str) -> None:
        self.answer("failed", job_id, errno=1, step=RECALLED)

    def test_started(self) -> None:
        """A spawn request is answered with the process and its pipes."""
        with open(os.devnull) as given:
            self.start("a", descriptors=(given.fileno(),))
            self.assertEqual(["a"], self.received())
            self.answer("started", "a", (given.fileno(),), pid=77, at=5.0)
        pid, (pipe,) = self.began["a"]
        self.assertEqual(77, pid)
        os.close(pipe)
        self.assertIsInstance(self.children["a"], FakeChild)

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

    def test_no_memory(self) -> None:
        """A request that the kernel has no memory to send is sent soon, though nothing else is requested meanwhile."""
        self.socket.poor = True
        self.start("a")
        self.readers.clock.advance(RECALL_SECONDS)
        self.socket.poor = False
        self.assertEqual([], self.received())
        self.readers.clock.advance(CHECK_SECONDS)
        self.assertEqual(["a"], self.received())
        self.started("a")
        self.assertEqual(["a"], list(self.began))

    def test_recall(self) -> None:
        """Requests behind a start that hangs are recalled, and checked again when that start is answered."""
        self.start("hangs", "b", "c")
        self.assertTrue(self.queue.is_in_flight("b"))
        self.received()
        self.readers.clock.advance(RECALL_SECONDS)
        self.start("d")
        self.assertEqual((1, []), (self.recalls, self.received()))
        for job_id in ("b", "c"):
            self.recalled(job_id)
        self.refused["c"] = ValueError("its caller is gone")
        self.checked.clear()
        self.assertEqual([], self.received())
        self.started("hangs")
        self.readers.clock.advance(0)
        self.assertEqual(["b", "c", "d"], self.checked)
        self.assertEqual((["b", "d"], ["c"]), (self.received(), list(self.failed)))

    def test_recalled_twice(self) -> None:
        """Requests that are recalled a second time keep their order."""
        self.start("hangs", "b", "c")
        self.readers.clock.advance(RECALL_SECONDS)
        for job_id in ("b", "c"):
            self.recalled(job_id)
        self.received()
        self.started("hangs")
        self.readers.clock.advance(RECALL_SECONDS)
        self.recalled("c")
        self.start("d")
        self.started("b")
        self.assertEqual((2, ["b", "c", "c", "d"]), (self.recalls, self.received()))

    def test_all_are_recalled(self) -> None:
        """Where the shim had not begun the first, or had answered it, nothing hangs: they are sent again at once."""
        self.start("a", "b")
        self.received()
        self.readers.clock.advance(RECALL_SECONDS)
        self.recalled("a")
        self.assertEqual([], self.received())
        self.recalled("b")
        self.assertEqual(["a", "b"], self.received())
        self.readers.clock.advance(RECALL_SECONDS)
        self.started("a")
        self.recalled("b")
        self.assertEqual((2, ["b"]), (self.recalls, self.received()))

    def test_unwanted_behind_one_that_hangs(self) -> None:
        """While a start hangs, those behind it that nobody wants any more fail within a second, and keep nothing."""
        self.start("hangs", "b", "c")
        self.received()
        self.readers.clock.advance(RECALL_SECONDS)
        self.recalled("b")
        self.start("d", "e")
        for name in ("b", "d"):
            self.refused[name] = ValueError("its caller is gone")
        for count, gone in ((1, ["b", "d"]), (2, ["b", "d", "e"])):
            self.readers.clock.advance(CHECK_SECONDS)
            self.readers.clock.advance(0)
            self.assertEqual((gone, []), (list(self.failed), self.received()), count)
            self.refused["e"] = ValueError("its caller is gone")
        self.start("f")
        self.recalled("c")
        self.started("hangs")
        self.assertEqual(["c", "f"], self.received())

    def test_nothing_goes_to_one_that_hangs(self) -> None:
        """While a single start hangs nothing is recalled, and new requests wait in the worker."""
        self.start("hangs")
        self.received()
        self.readers.clock.advance(10 * RECALL_SECONDS)
        self.start("b")
        self.assertEqual((0, []), (self.recalls, self.received()))
        self.started("hangs")
        self.assertEqual(["b"], self.received())

    def test_answers_in_time(self) -> None:
        """Nothing is recalled while each answer comes in time."""
        self.start("a", "b")
        for _ in range(3):
            self.readers.clock.advance(0.9 * RECALL_SECONDS)
            self.start("c")
            self.started("c")
        self.assertEqual(0, self.recalls)

    def test_answer_to_nothing(self) -> None:
        """The descriptors of a process that was not requested are closed."""
        reading, writing = os.pipe()
        self.answer("started", "unknown", (reading,), pid=77, at=5.0)
        os.close(reading)
        self.assertRaises(BrokenPipeError, os.write, writing, b"x")
        os.close(writing)

    def test_shim_ends(self) -> None:
        """When the shim hangs up, lost() is called; then all starts fail, those in flight too."""
        names = [f"job-{number}" for number in range(IN_FLIGHT + 2)]
        self.start(*names)
        self.shim.close()
        self.readers.read()
        self.assertEqual((names, 1), (list(self.failed), self.lost))
        self.readers.read()
        self.assertEqual(([], 1), (self.readers.readers, self.lost))
        self.assertEqual([], self.readers.clock.getDelayedCalls())

    def test_ends_while_a_request_is_sent(self) -> None:
        """Sending to a shim that has ended raises nothing; the start fails a moment later."""
        self.shim.close()
        self.start("b")
        self.assertEqual({}, self.failed)
        self.readers.clock.advance(0)
        self.assertEqual({"b": "shim"}, {name: error.filename for name, error in self.failed.items()})  # type: ignore[attr-defined]

    def test_put_when_closed(self) -> None:
        """A start after the end of the shim fails a moment later."""
        self.queue.close(ENDED)
        self.start("late")
        self.assertEqual({}, self.failed)
        self.readers.clock.advance(0)
        self.assertEqual(["late"], list(self.failed))

    def test_full(self) -> None:
        """Requests that the socket does not take at once are sent when there is room, in order and complete."""
        names = [f"job-{number}" for number in range(IN_FLIGHT)]
        got: list[str] = []
        for name in names:
            request = self.a_start(name, ())
            request.message["argv"] = ["x" * 30_000]
            self.queue.put(request)
        while len(got) < len(names):
            got += self.received()
            self.started(got[-1])
        self.assertEqual(names, got)
