"""What the spawner requests of the shim, and what it does with the answer. Real pipes, no process and no shim."""

from __future__ import annotations

import errno
import os
from collections import ChainMap
from collections.abc import Mapping
from typing import Any

from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IReactorProcess
from twisted.internet.protocol import ProcessProtocol
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.support.readers import FakeReaders
from txworker.process.shim_spawner import ShimSpawner
from txworker.process.spawn_options import SAME_PIPE, SpawnOptions
from txworker.process.spawn_queue import SpawnRequest
from txworker.shim.messages import SHORT

BASE = {"PATH": "/bin"}
REPORT = {"at": 5.0, "stdin": None}
OPTIONS = SpawnOptions("job", (("limits.maxCPU", 0, 1, 2),), (1, 2, (3,)), 4, 5, "/cgroup", 6, 7.0, 8.0, 9.0, 10)


class FakeShim:
    """Records its calls."""

    def __init__(self) -> None:
        self.starts: list[SpawnRequest] = []
        self.adopted: dict[str, Any] = {}
        self.released: list[tuple[str, bool]] = []
        self.enforced: list[tuple[str, str, float]] = []
        self.sizes: list[tuple[str, int, int]] = []

    def spawn(self, request: SpawnRequest) -> None:
        self.starts.append(request)

    def adopt(self, job_id: str, child: Any) -> None:
        self.adopted[job_id] = child

    def release(self, job_id: str, keep: bool) -> None:
        self.released.append((job_id, keep))

    def enforce(self, job_id: str, reason: str, kill_at: float) -> None:
        self.enforced.append((job_id, reason, kill_at))

    def resize(self, job_id: str, rows: int, columns: int) -> None:
        self.sizes.append((job_id, rows, columns))

    def feed(self, job_id: str, file: int | None, end: bool) -> None:
        raise AssertionError("not of interest here")


class Connected(ProcessProtocol):
    """Records whether it was connected; its pipes hold no output."""

    made = False
    output: Any = None

    def connectionMade(self) -> None:
        self.made = True


class SpawnerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.readers = FakeReaders()
        self.shim = FakeShim()
        self.protocol = Connected()
        readers: Any = self.readers
        self.spawner = ShimSpawner(readers, lambda: self.shim, BASE)

    def spawn(
        self,
        env: Mapping[str, str] | None = None,
        fds: Mapping[int, int | str] | None = None,
        options: SpawnOptions = OPTIONS,
    ) -> Any:
        fds = fds or {0: None, 1: "r", 2: SAME_PIPE}  # type: ignore[dict-item]
        return self.spawner.spawnProcess(
            self.protocol, "prog", ["prog", "arg"], env, "/dir", childFDs=fds, options=options
        )

    def pipe(self) -> int:
        """The read end of a pipe that has ended."""
        reading, writing = os.pipe()
        os.close(writing)
        return reading

    def test_interface(self) -> None:
        """It is an IReactorProcess."""
        self.assertTrue(verifyObject(IReactorProcess, self.spawner))

    def test_not_offered(self) -> None:
        """usePTY, uid and gid are refused."""
        for wrong in ({"uid": 1}, {"gid": 1}, {"usePTY": True}):
            with self.assertRaises(ValueError):
                self.spawner.spawnProcess(self.protocol, "prog", **wrong)
        self.assertEqual([], self.shim.starts)

    def test_message(self) -> None:
        """The message has everything that the shim needs."""
        self.spawn(ChainMap({"ADDED": "1"}, BASE))
        (start,) = self.shim.starts
        expected = {
            "type": "spawn",
            "job": "job",
            "ahead": 0.0,
            "argv": ["prog", "arg"],
            "env": {"ADDED": "1"},
            "whole_env": False,
            "directory": "/dir",
            "stdin": False,
            "feed": False,
            "separate_stderr": False,
            "terminal": None,
            "tag": 6,
            "limits": OPTIONS.limits,
            "user": OPTIONS.user,
            "nice": 4,
            "oom_score_adj": 5,
            "cgroup": "/cgroup",
            "timeout": 7.0,
            "quiet": 8.0,
            "grace": 9.0,
            "max_output": 10,
            "keep": False,
        }
        self.assertEqual((expected, []), (start.message, start.descriptors))

    def test_whole_environment(self) -> None:
        """An environment that is not based on what the shim knows is sent whole; an empty one stays empty."""
        for env, expected in [
            ({"A": "1"}, {"A": "1"}),
            ({}, {}),
            (ChainMap({"A": "1"}, dict(BASE)), {"A": "1", **BASE}),
        ]:
            self.spawn(env)
            message = self.shim.starts[-1].message
            self.assertEqual((expected, True), (message["env"], message["whole_env"]))

    def test_descriptors(self) -> None:
        """The descriptor of stdin goes with the message; so does the wish for a separate stderr."""
        self.spawn(fds={0: 17, 1: "r", 2: "r"})
        (start,) = self.shim.starts
        self.assertEqual([17], start.descriptors)
        self.assertTrue(start.message["stdin"])
        self.assertTrue(start.message["separate_stderr"])

    def test_terminal(self) -> None:
        """The size of a terminal goes with the message; later sizes are passed on while the process runs."""
        transport = self.spawn(options=SpawnOptions("job", terminal=(5, 9)))
        (start,) = self.shim.starts
        self.assertEqual(((5, 9), False), (start.message["terminal"], start.message["stdin"]))
        start.began(77, [self.pipe()], REPORT)
        transport.resize(7, 11)
        self.assertEqual([("job", 7, 11)], self.shim.sizes)
        transport.release(keep=False)
        self.assertRaises(ProcessExitedAlready, transport.resize, 1, 1)
        transport.loseConnection()

    def test_begins(self) -> None:
        """When the process runs, the protocol is connected, and then `started` fires."""
        transport = self.spawn()
        (start,) = self.shim.starts
        self.assertFalse(self.protocol.made)
        self.assertIs(transport, start.began(77, [self.pipe()], REPORT))
        self.assertIs(transport, self.successResultOf(transport.started))
        self.assertEqual((77, True, 1), (transport.pid, self.protocol.made, len(self.readers.readers)))
        transport.release(keep=True)
        self.assertEqual([("job", True)], self.shim.released)
        transport.loseConnection()

    def test_fails(self) -> None:
        """When there is no process, `started` fails with the reason, and the protocol is never connected."""
        transport = self.spawn()
        (start,) = self.shim.starts
        error = OSError(2, "No such file", "prog")
        start.failed(error)
        self.assertIs(error, self.failureResultOf(transport.started).value)
        self.assertFalse(self.protocol.made)

    def test_cannot_be_watched(self) -> None:
        """A process whose pipes cannot be watched is killed and released, and its pipes are closed."""
        self.readers.room = 0
        killed: list[tuple[int, int]] = []
        self.patch(os, "killpg", lambda *words: killed.append(words))
        transport = self.spawn()
        (start,) = self.shim.starts
        pipe = self.pipe()
        start.began(77, [pipe], REPORT)
        self.failureResultOf(transport.started, OSError)
        self.assertEqual(([(77, 9)], [("job", False)]), (killed, self.shim.released))
        self.assertRaises(OSError, os.fstat, pipe)
        self.assertFalse(self.protocol.made)

    def test_pipes_are_missing(self) -> None:
        """A process whose pipes found no free descriptor in the worker is killed: it would run without output."""
        killed: list[tuple[int, int]] = []
        self.patch(os, "killpg", lambda *words: killed.append(words))
        transport = self.spawn()
        pipe = self.pipe()
        self.shim.starts[0].began(77, [pipe], {**REPORT, SHORT: True})
        self.assertRaises(OSError, os.fstat, pipe)
        error = self.failureResultOf(transport.started, OSError).value
        self.assertEqual(errno.EMFILE, error.errno)
        self.assertEqual(([(77, 9)], [("job", False)], False), (killed, self.shim.released, self.protocol.made))

    def test_adopts(self) -> None:
        """A process from before is connected to the protocol at once, and the shim reports its exit."""
        transport = self.spawner.adopt(self.protocol, "job", 77, [self.pipe()])
        self.assertEqual({"job": transport}, self.shim.adopted)
        self.assertEqual((77, True), (transport.pid, self.protocol.made))
        transport.loseConnection()

    def test_enforce(self) -> None:
        """What the shim is to enforce if the worker dies is passed on."""
        self.spawn().enforce("asked", 5.0)
        self.assertEqual([("job", "asked", 5.0)], self.shim.enforced)
