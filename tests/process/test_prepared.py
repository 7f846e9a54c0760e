"""The worker's end of the preparer, with a made-up connection; what is asked and how answers are understood."""

from __future__ import annotations

import array
import errno
import marshal
import os
import resource
import struct
from typing import Any
from unittest.mock import patch

from twisted.trial.unittest import SynchronousTestCase

from txworker.process.brand import LOCKS
from txworker.process.prepared import Preparation, PreparedStart, PreparerFailed


def an_answer(pid: int = 0, error: int = 0, step: str = "") -> bytes:
    return struct.pack("ii32s", pid, error, step.encode())


STARTED = an_answer(42), an_answer(42)
"""It is made, and its exec has succeeded."""


class FakeConnection:
    """Answers what it is told to: bytes, or an error to raise. Remembers requests and how many descriptors came."""

    def __init__(self, *answers: bytes | Exception) -> None:
        self.answers = list(answers)
        self.requests: list[dict[str, Any]] = []
        self.descriptors: list[int] = []
        self.closed = False

    def sendmsg(self, buffers: list[bytes], control: list[tuple[int, int, array.array[int]]]) -> None:
        passed = control[0][2]
        self.descriptors.append(len(passed))
        self.requests.append(marshal.loads(os.pread(passed[0], 1 << 20, 0)))
        if isinstance(self.answers[0], BrokenPipeError):
            raise self.answers.pop(0)  # type: ignore[misc]

    def recv(self, size: int) -> bytes:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None:
        self.closed = True


class PreparedTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.start = PreparedStart(lambda pid: None)
        self.connections: list[FakeConnection] = []
        self.patch(os, "waitpid", lambda pid, options: self.waited.append(pid))
        self.patch(os, "kill", lambda pid, number: self.killed.append(pid))
        self.waited: list[int] = []
        self.killed: list[int] = []

    def started(self, *connections: FakeConnection, preparation: Preparation = Preparation(), **more: Any) -> int:
        waiting = list(connections)

        def connected() -> Any:
            if self.start._connection is None:
                self.start._connection = waiting.pop(0)  # type: ignore[assignment]
            return self.start._connection

        arguments = {"argv": ["prog", "arg"], "environment": {"PATH": "/a:/b"}, "directory": "/dir", **more}
        with patch.object(self.start, "_connected", connected):
            return self.start(descriptors={0: 0, 1: 1, 2: 2}, preparation=preparation, **arguments)

    def test_request(self) -> None:
        """All that the child needs is in the request, and its three descriptors go with it."""
        limits = (("limits.maxCPU", resource.RLIMIT_CPU, 1, 6),)
        connection = FakeConnection(*STARTED)
        preparation = Preparation(limits, (1, 2, (3,)), nice=5, oom_score_adj=6, brand=7)
        self.assertEqual(42, self.started(connection, preparation=preparation))
        request = connection.requests[0]
        self.assertEqual((["prog", "arg"], ["/a/prog", "/b/prog"]), (request["argv"], request["places"]))
        self.assertEqual(
            ("/dir", (1, 2, (3,)), 5, 6), tuple(request[k] for k in ("directory", "user", "nice", "oom_score_adj"))
        )
        self.assertEqual([limits[0], ("brand", LOCKS, 7, resource.RLIM_INFINITY)], request["limits"])
        self.assertEqual([4], connection.descriptors)

    def test_cgroup(self) -> None:
        """A cgroup's directory is one more descriptor."""
        connection = FakeConnection(*STARTED)
        self.started(connection, preparation=Preparation(cgroup=os.getcwd()))
        self.assertEqual([5], connection.descriptors)

    def test_cgroup_gone(self) -> None:
        """A cgroup that is not there is an error before anything is asked."""
        self.assertRaises(FileNotFoundError, self.started, preparation=Preparation(cgroup="/no/such/cgroup"))

    def test_errors(self) -> None:
        """An error names the directory, the command, or the step; a child that failed is waited for."""
        for step, filename in [("directory", "/dir"), ("command", "prog"), ("user", "user"), ("nice", "nice")]:
            with self.assertRaises(OSError) as caught:
                self.started(FakeConnection(an_answer(43), an_answer(43, errno.EACCES, step)))
            self.start.close()
            self.assertEqual((errno.EACCES, filename), (caught.exception.errno, caught.exception.filename))
        self.assertEqual([43] * 4, self.waited)

    def test_no_child(self) -> None:
        """When there never was a child nobody is waited for, and it is told apart."""
        with self.assertRaises(PreparerFailed) as caught:
            self.started(FakeConnection(an_answer(0, errno.ENOSYS, "clone")))
        self.assertEqual((errno.ENOSYS, []), (caught.exception.errno, self.waited))

    def test_dead_before(self) -> None:
        """A preparer that has died meanwhile is started anew, once, without anybody noticing."""
        dead, fresh = FakeConnection(BrokenPipeError()), FakeConnection(*STARTED)
        self.assertEqual(42, self.started(dead, fresh))
        self.assertTrue(dead.closed)
        self.assertEqual(dead.requests, fresh.requests)

    def test_dead_then_hangs(self) -> None:
        """What is true of the first is true of the one that is started in its place: nothing of it is asked again."""
        second = FakeConnection(TimeoutError())
        with self.assertRaises(OSError) as caught:
            self.started(FakeConnection(BrokenPipeError()), second)
        self.assertEqual((errno.ETIMEDOUT, True), (caught.exception.errno, second.closed))

    def test_dies_meanwhile(self) -> None:
        """One that dies over a request may have made the child: it is not asked again, and the order is refused."""
        connection = FakeConnection(b"")
        with self.assertRaises(OSError) as caught:
            self.started(connection)
        self.assertEqual(
            ("preparer", True, 1), (caught.exception.filename, connection.closed, len(connection.requests))
        )

    def test_hangs(self) -> None:
        """One that does not answer is given up."""
        connection = FakeConnection(TimeoutError())
        with self.assertRaises(OSError) as caught:
            self.started(connection)
        self.assertEqual((errno.ETIMEDOUT, True), (caught.exception.errno, connection.closed))

    def test_child_hangs(self) -> None:
        """A child whose exec waits too long is killed, or it would run unexpected; it is waited for later."""
        ends: list[tuple[bytes | Exception, int]] = [(TimeoutError(), errno.ETIMEDOUT), (b"", errno.EIO)]
        for answer, number in ends:
            connection = FakeConnection(an_answer(42), answer)
            with self.assertRaises(OSError) as caught:
                self.started(connection)
            self.assertEqual(
                (number, "preparer", True), (caught.exception.errno, caught.exception.filename, connection.closed)
            )
            self.assertEqual([42], self.killed)
            self.assertEqual([], self.waited)
            self.started(FakeConnection(*STARTED))
            self.start.close()
            self.assertEqual([42], self.waited)
            self.killed.clear()
            self.waited.clear()

    def test_given_up_is_spared(self) -> None:
        """Nobody else waits for a child that was given up, as long as it lives, or its number could be another's."""
        spared: set[int] = set()
        self.start = PreparedStart(spared.add, spared.discard)
        with self.assertRaises(OSError):
            self.started(FakeConnection(an_answer(42), TimeoutError()))
        for answer, left in (((0, 0), {42}), ((42, 9), set())):
            self.assertEqual({42}, spared)
            self.patch(os, "waitpid", lambda pid, options, answer=answer: answer)
            self.started(FakeConnection(*STARTED))
            self.start.close()
            self.assertEqual(left, spared)

    def test_needed(self) -> None:
        """A cgroup or an oom_score_adj alone may come a moment later; what binds the first instruction may not."""
        self.assertFalse(Preparation(oom_score_adj=5, cgroup="/c", brand=7).needed)
        for preparation in (Preparation(nice=1), Preparation(user=(1, 1, ())), Preparation((("x", 1, 1, 1),))):
            self.assertTrue(preparation.needed)
