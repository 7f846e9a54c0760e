"""Launching by Twisted's reactor, up to the exec of the job, and what that does not support. No process is started."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.internet.interfaces import IReactorProcess
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from txworker.jobs.errors import NotSupported, WorkerStopping
from txworker.linux.memfd import memory_file
from txworker.process.bootstrap import FAILED, NUMBER, REPORT, REQUEST, STARTING
from txworker.process.reactor_spawner import ReactorSpawner, ReactorTransport
from txworker.process.spawn_options import SAME_PIPE, SpawnOptions

PID = 2**22 + 1
"""No process has this pid (PID_MAX_LIMIT)."""

DONE = Failure(ProcessDone(None))


class FakeProcess:
    """Records its signals; it has no pid after its exit, as Twisted's process."""

    def __init__(self) -> None:
        self.pid: int | None = PID
        self.signals: list[str] = []
        self.closed = False

    def signalProcess(self, name: str) -> None:
        if self.pid is None:
            raise ProcessExitedAlready()
        self.signals.append(name)

    def loseConnection(self) -> None:
        self.closed = True


@implementer(IReactorProcess)
class FakeReactor:
    """Starts nothing, or fails."""

    def __init__(self) -> None:
        self.problem: OSError | None = None
        self.protocols: list[Any] = []
        self.processes: list[FakeProcess] = []
        self.requests: list[dict[str, Any]] = []
        self.fds: list[Mapping[int, Any]] = []
        self.stdins: list[bytes] = []
        self.unpinned_depth = 0
        self.depths: list[int] = []

    def spawnProcess(
        self,
        processProtocol: Any,
        executable: str,
        args: Sequence[str] = (),
        env: Any = None,
        path: None = None,
        uid: None = None,
        gid: None = None,
        usePTY: bool = False,
        childFDs: Any = None,
    ) -> FakeProcess:
        assert (path, uid, gid, usePTY) == (None, None, None, False)  # or Twisted would fork
        if self.problem is not None:
            raise self.problem
        self.requests.append(json.loads(os.pread(childFDs[REQUEST], 10_000, 0)))
        self.fds.append(childFDs)
        self.stdins.append(os.read(childFDs[0], 100))
        self.depths.append(self.unpinned_depth)
        self.protocols.append(processProtocol)
        self.processes.append(FakeProcess())
        processProtocol.makeConnection(self.processes[-1])
        return self.processes[-1]

    @contextmanager
    def unpinned(self) -> Iterator[None]:
        """As CpuPinning.unpinned()."""
        self.unpinned_depth += 1
        try:
            yield
        finally:
            self.unpinned_depth -= 1


class Recording(ProcessProtocol):
    """Records the calls of its transport."""

    def __init__(self) -> None:
        self.heard: list[object] = []

    def connectionMade(self) -> None:
        self.heard.append("made")

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        self.heard.append((childFD, data))

    def childConnectionLost(self, childFD: int) -> None:
        self.heard.append(f"lost {childFD}")

    def processExited(self, reason: Failure) -> None:
        self.heard.append("exited")

    def processEnded(self, reason: Failure) -> None:
        self.heard.append("ended")


class ReactorSpawnerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = FakeReactor()
        self.job = Recording()
        self.spawner = ReactorSpawner(self.reactor, 0o27, (100, 200), self.reactor.unpinned)
        self.addCleanup(self.spawner.close)

    def spawn(self, **more: Any) -> ReactorTransport:
        more = {"childFDs": {0: None, 1: "r", 2: SAME_PIPE}, "options": SpawnOptions("job", tag=6), **more}
        return self.spawner.spawnProcess(self.job, "prog", ["prog", "arg"], {"A": "1"}, "/dir", **more)

    def report(self, *said: bytes) -> Any:
        """Let the bootstrap write this report and close it."""
        process = self.reactor.protocols[-1]
        for data in said:
            process.childDataReceived(REPORT, data)
        process.childConnectionLost(REPORT)
        return process

    def exit(self, process: Any, reason: Failure = DONE) -> None:
        self.reactor.processes[-1].pid = None
        process.processExited(reason)

    def test_interface(self) -> None:
        """It is an IReactorProcess."""
        self.assertTrue(verifyObject(IReactorProcess, self.spawner))

    def test_request(self) -> None:
        """The bootstrap gets its request in a memfd, and is started where it may run on every CPU."""
        self.spawn()
        expected = {
            "umask": 0o27,
            "descriptor_limit": [100, 200],
            "argv": ["prog", "arg"],
            "env": {"A": "1"},
            "directory": "/dir",
            "separate_stderr": False,
            "tag": 6,
            "oom_score_adj": 0,
        }
        self.assertEqual(([expected], [1]), (self.reactor.requests, self.reactor.depths))
        self.assertRaises(OSError, os.fstat, self.reactor.fds[0][REQUEST])  # it is not ours any more

    def test_descriptors(self) -> None:
        """Stdin is a pipe with the bytes of the given file, or /dev/null; a separate stderr has a pipe of its own."""
        with memory_file(b"given", "stdin") as given:
            self.spawn(childFDs={0: given, 1: "r", 2: "r"})
        self.spawn()
        first, second = self.reactor.fds
        self.assertEqual(("r", "r"), (first[1], first[2]))
        self.assertEqual([b"given", b""], self.reactor.stdins)
        self.assertEqual([True, False], [request["separate_stderr"] for request in self.reactor.requests])
        self.assertEqual(os.stat("/dev/null").st_rdev, os.fstat(second[0]).st_rdev)

    def test_runs(self) -> None:
        """The protocol is connected at the exec; what came before is held back, and then passed on in order."""
        transport = self.spawn()
        process = self.reactor.protocols[-1]
        process.childDataReceived(1, b"early")
        self.assertNoResult(transport.started)
        self.assertEqual([], self.job.heard)
        self.report(STARTING)
        self.assertIs(transport, self.successResultOf(transport.started))
        process.childDataReceived(1, b"late")
        process.childConnectionLost(1)
        self.exit(process)
        process.processEnded(DONE)
        self.assertEqual(["made", (1, b"early"), (1, b"late"), "lost 1", "exited", "ended"], self.job.heard)

    def test_over_at_once(self) -> None:
        """A job whose exit is seen before the end of the report is reported like any other."""
        transport = self.spawn()
        process = self.reactor.protocols[-1]
        process.childDataReceived(1, b"all")
        process.childConnectionLost(1)
        self.exit(process)
        self.report(STARTING)
        process.processEnded(DONE)
        self.successResultOf(transport.started)
        self.assertEqual(["made", (1, b"all"), "lost 1", "exited", "ended"], self.job.heard)
        self.assertEqual(PID, transport.pid)

    def test_fails(self) -> None:
        """A failed step is reported with its errno once the bootstrap has ended; the protocol is never connected."""
        for step, filename in [("command", "prog"), ("directory", "/dir"), ("oom_score_adj", "oom_score_adj")]:
            for before in (b"", STARTING):
                transport = self.spawn()
                process = self.report(before + FAILED, NUMBER.pack(errno.EACCES) + step.encode())
                self.assertNoResult(transport.started)
                self.exit(process, Failure(ProcessTerminated(127)))
                process.processEnded(DONE)
                error: Any = self.failureResultOf(transport.started, OSError).value
                self.assertEqual((errno.EACCES, filename), (error.errno, error.filename))
        self.assertEqual([], self.job.heard)

    def test_never_begun(self) -> None:
        """A bootstrap that ends without a report, because the interpreter does not work, is a failed launch."""
        transport = self.spawn()
        process = self.report()
        reason = Failure(ProcessTerminated(1))
        self.exit(process, reason)
        process.processEnded(reason)
        error: Any = self.failureResultOf(transport.started, OSError).value
        self.assertEqual("clone", error.filename)
        self.assertIn("exit code 1", str(error))

    def test_no_process(self) -> None:
        """When no process can be made, spawnProcess() raises what the shim's spawner would fail with."""
        self.reactor.problem = OSError(errno.EAGAIN, "Resource temporarily unavailable", "python")
        with self.assertRaises(OSError) as caught:
            self.spawn()
        self.assertEqual((errno.EAGAIN, "clone"), (caught.exception.errno, caught.exception.filename))
        self.assertEqual(0, self.reactor.unpinned_depth)

    def test_not_offered(self) -> None:
        """Options that only the shim supports are refused by name, before anything is started."""
        table = [
            (SpawnOptions("job", limits=(("limits.maxCPU", 0, 3, 8),)), "limits.maxCPU: 3 needs the shim"),
            (SpawnOptions("job", user=(1, 1, ())), r"user: \(1, 1, \(\)\) needs the shim"),
            (SpawnOptions("job", nice=5), "nice: 5 needs the shim"),
            (SpawnOptions("job", cgroup="/c"), "cgroup: '/c' needs the shim"),
        ]
        for options, text in table:
            with self.assertRaisesRegex(NotSupported, text):
                self.spawn(options=options)
        for wrong in ({"uid": 1}, {"gid": 1}, {"usePTY": True}):
            self.assertRaises(ValueError, self.spawn, **wrong)
        self.assertEqual([], self.reactor.requests)

    def test_not_wanted(self) -> None:
        """What check() raises is raised, and nothing is started."""

        def check() -> None:
            raise WorkerStopping

        self.assertRaises(WorkerStopping, self.spawn, check=check)
        self.assertEqual([], self.reactor.requests)

    def test_close(self) -> None:
        """close() kills a process that has not executed its job, and leaves running jobs alone."""
        self.spawn()
        self.report(STARTING)
        transport = self.spawn()
        self.spawner.close()
        self.assertEqual([[], ["KILL"]], [process.signals for process in self.reactor.processes])
        process = self.report(STARTING)  # it was about to
        self.exit(process)
        process.processEnded(DONE)
        self.failureResultOf(transport.started, OSError)

    def test_group(self) -> None:
        """The process group is signalled until the process exits: then Twisted reaps it, and its pid is free."""
        signals: list[tuple[int, int]] = []
        self.patch(os, "killpg", lambda *words: signals.append(words))
        transport = self.spawn()
        process = self.report(STARTING)
        transport.signalGroup(15)
        self.exit(process)
        self.assertRaises(ProcessExitedAlready, transport.signalGroup, 9)
        self.assertEqual([(PID, 15)], signals)

    def test_how_it_exited(self) -> None:
        """The transport knows when the process exited and whether it left a core dump, but not what it used."""
        transport = self.spawn()
        process = self.report(STARTING)
        self.exit(process, Failure(ProcessTerminated(None, 11, 0x80 | 11)))
        self.assertTrue(transport.core_dumped)
        self.assertGreater(transport.exited_at, 0)

    def test_lose_connection(self) -> None:
        """All other methods are those of Twisted's transport."""
        transport = self.spawn()
        transport.loseConnection()
        self.assertTrue(self.reactor.processes[-1].closed)
