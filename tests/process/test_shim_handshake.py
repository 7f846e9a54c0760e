"""The handshake with a shim that has jobs, and the question whether there is one."""

from __future__ import annotations

import contextlib  # a module's `suppress` is trial's
import os
import socket
import threading
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.support.descriptors import open_descriptors
from txworker.process import shim_handshake
from txworker.process.shim_waiting import ShimUnusable
from txworker.shim import messages
from txworker.shim.messages import Channel
from txworker.shim.reachability import Reachability

HELLO = {"type": "hello", "protocol": messages.PROTOCOL, "version": "1", "pid": 1, "thread": 1, "jobs": 1, "kept": 0}
EXIT = {"exit_code": 3}
RECORD = {
    "type": "job",
    "job": "a",
    "pid": 2,
    "ticks": 3,
    "started_wall": 4.0,
    "timeout_at": None,
    "last_output": 5.0,
    "reason": None,
    "kill_at": None,
    "lost": [0, 0],
    "discarded": [0, 0],
    "max_output": 0,
    "cgroup": "",
    "exit": EXIT,
    "stdin": None,
}


class _ShimTests(SynchronousTestCase):
    """A state directory with the socket of a shim that the test plays."""

    def setUp(self) -> None:
        self.stack = ExitStack()
        self.addCleanup(self.stack.close)
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.listener = self.stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        fd = os.open(self.directory, os.O_RDONLY)
        self.stack.callback(os.close, fd)
        self.listener.bind(f"/proc/self/fd/{fd}/{messages.SOCKET_NAME}")
        self.listener.listen(1)


class HandshakeTests(_ShimTests):
    def setUp(self) -> None:
        super().setUp()
        self.pipe = os.pipe()
        for end in self.pipe:
            self.stack.callback(os.close, end)
        self.requests, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for connection in (self.requests, other):
            self.stack.enter_context(connection)

    def connect(self, *said: tuple[dict[str, Any], list[int]]) -> shim_handshake.Handshake:
        """Connect to a shim that says that, whatever it is told."""

        def say() -> None:
            connection, _ = self.listener.accept()
            channel = Channel(connection)
            for message, descriptors in said:
                channel.send(message, descriptors)
            channels.append(channel)

        channels: list[Channel] = []
        shim = threading.Thread(target=say, daemon=True)
        shim.start()
        reactor: Any = None  # no shim is started
        found = shim_handshake.connect(reactor, self.directory, {}, self.pipe[0], [], "1")
        shim.join(10)
        for held in found.held:
            for pipe in held.pipes:
                self.stack.callback(os.close, pipe)
        self.stack.callback(found.channel.close)
        self.stack.callback(found.requests.close)
        self.stack.callback(channels[0].close)
        return found

    def test_exit_before_the_answer(self) -> None:
        """A job that exits while a worker connects is told of before the answer; its record says the same."""
        exited = {"type": "exited", "job": "a", "exit": EXIT}
        started = {**RECORD, "exit": None}
        found = self.connect(
            (exited, []),
            (started, [self.pipe[0]]),
            (HELLO, [self.requests.fileno()]),
            (RECORD, [self.pipe[0]]),
            ({"type": "ready", "starting": []}, []),
        )
        self.assertEqual([("a", EXIT)], [(held.job_id, held.exit) for held in found.held])

    def test_exit_after_the_record(self) -> None:
        """A job that exits after its record was sent is exited."""
        found = self.connect(
            (HELLO, [self.requests.fileno()]),
            ({**RECORD, "exit": None}, []),
            ({"type": "exited", "job": "a", "exit": EXIT}, []),
            ({"type": "ready", "starting": []}, []),
        )
        self.assertEqual([EXIT], [held.exit for held in found.held])

    def test_older_shim(self) -> None:
        """An older shim does not say whether output is incomplete."""
        found = self.connect(
            (HELLO, [self.requests.fileno()]),
            (RECORD, []),
            ({**RECORD, "incomplete": [True, False]}, []),
            ({"type": "ready", "starting": []}, []),
        )
        self.assertEqual([(False, False), (True, False)], [held.incomplete for held in found.held])

    def test_too_few_descriptors(self) -> None:
        """A worker that has no descriptor for a job's pipes takes nothing over: the shim keeps its jobs."""
        with self.assertRaisesRegex(ShimUnusable, "its jobs need more open files than the limit"):
            self.connect((HELLO, [self.requests.fileno()]), ({**RECORD, messages.SHORT: True}, []))


class EndedShimTests(_ShimTests):
    """A shim that ends, or has ended, and the one that is started in its place."""

    def connect(self) -> tuple[bool, bool]:
        """Connect; whether no job of an earlier worker may have a process, and what the new shim is told of that."""
        requests, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.stack.enter_context(other)
        told: list[bool] = []

        def answer(listener: socket.socket) -> None:
            with closing(listener), closing(requests):
                channel = Channel(listener.accept()[0])
                told.append(channel.receive()[0]["serving"])
                channel.send({**HELLO, "jobs": 0}, [requests.fileno()])
                channel.send({"type": "ready", "starting": []})
            self.stack.callback(channel.close)

        class StartingReactor:
            """It starts a shim that the test plays."""

            def spawnProcess(self, *args: Any, childFDs: dict[int, int], **more: Any) -> None:
                listener = socket.socket(fileno=os.dup(childFDs[3]))
                threading.Thread(target=answer, args=[listener], daemon=True).start()

        found = shim_handshake.connect(StartingReactor(), self.directory, {}, other.fileno(), [], "1")
        self.stack.callback(found.channel.close)
        self.stack.callback(found.requests.close)
        return found.complete, told[0]

    def mark(self) -> None:
        fd = os.open(self.directory, os.O_RDONLY)
        with closing(Reachability(fd)) as reachability:
            reachability.mark_ended()

    def test_ended(self) -> None:
        """A shim that ended by itself had no job, which the next one is told, so that it can tell it in its turn."""
        self.mark()
        self.listener.close()
        self.assertEqual((True, True), self.connect())

    def test_killed(self) -> None:
        """A socket with no shim behind it does not tell what the shim had; that there is no socket, neither."""
        self.listener.close()
        self.assertEqual((False, False), self.connect())
        (self.directory / messages.SOCKET_NAME).unlink()
        self.assertEqual((False, False), self.connect())

    def test_mark_is_not_inherited(self) -> None:
        """What a shim told is not true of the next one, which is killed."""
        self.mark()
        self.listener.close()
        self.connect()
        self.assertEqual((False, False), self.connect())

    def test_ends_while_a_worker_connects(self) -> None:
        """It hangs up, and nothing listens any more: it has ended."""
        connected = threading.Event()

        def end() -> None:
            connection, _ = self.listener.accept()
            self.mark()
            self.listener.close()
            connection.close()
            connected.set()

        threading.Thread(target=end, daemon=True).start()
        self.assertEqual((True, True), self.connect())
        self.assertTrue(connected.wait(10))

    def test_hangs_up_and_lives(self) -> None:
        """It has refused the worker: it may have jobs, so no other shim takes its place."""

        def refuse() -> None:
            self.listener.accept()[0].close()

        threading.Thread(target=refuse, daemon=True).start()
        error = self.assertRaises(ShimUnusable, self.connect)
        self.assertIn("the shim cannot be used", str(error))


class NoneNeededTests(_ShimTests):
    """What becomes of a shim that is there, although the configuration wants none."""

    def check(self, **said: Any) -> list[messages.Message]:
        """Ask a shim that answers with these fields (none: it hangs up) and ends when it is to; what it is told."""
        heard: list[messages.Message] = []

        def answer() -> None:
            connection, _ = self.listener.accept()
            with closing(Channel(connection)) as channel:
                heard.append(channel.receive()[0])
                if said:
                    channel.send({**HELLO, **said})
                    with contextlib.suppress(OSError):  # the worker hangs up
                        heard.append(channel.receive()[0])

        shim = threading.Thread(target=answer, daemon=True)
        shim.start()
        try:
            shim_handshake.check_none_needed(self.directory)
        finally:
            shim.join(10)
        return heard

    def test_without_jobs(self) -> None:
        """A shim without jobs is told to end, whatever its protocol; it has ended when this returns."""
        self.assertEqual(["hello", "quit"], [message["type"] for message in self.check(jobs=0, protocol=1)])

    def test_with_jobs(self) -> None:
        """A shim with jobs is left alone, and the sentence says how many it has and what to do."""
        error = self.assertRaises(ShimUnusable, self.check, jobs=3, pid=77)
        self.assertIn("the shim (pid 77) that is there has 3 jobs, and jobs.shim is false: let them end", str(error))

    def test_no_answer(self) -> None:
        """A shim that hangs up is no proof that there are no jobs."""
        error = self.assertRaises(ShimUnusable, self.check)
        self.assertIn("the shim cannot be asked whether it has jobs: ", str(error))

    def test_no_shim(self) -> None:
        """
        Where no shim listens, or there never was one, nothing is in the way, and no descriptor is left. What an earlier
        shim tells by its socket is gone: it is not true of jobs that are started without a shim.
        """
        self.listener.close()
        before = open_descriptors()
        shim_handshake.check_none_needed(self.directory)
        shim_handshake.check_none_needed(self.directory)
        self.assertEqual((set(), []), (open_descriptors() - before, os.listdir(self.directory)))
