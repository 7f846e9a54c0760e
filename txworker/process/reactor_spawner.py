"""
Jobs without a shim: processes of Twisted's own reactor, which end with the worker. docs/architecture.md has a table of
the differences.

The reactor executes bootstrap.py, which executes the job. The job's protocol is connected when that has succeeded.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IProcessTransport, IReactorProcess
from twisted.internet.protocol import ProcessProtocol
from twisted.python.components import proxyForInterface
from twisted.python.failure import Failure
from zope.interface import implementer

from txworker.base.logs import Logger
from txworker.jobs import Usage
from txworker.jobs.errors import NotSupported
from txworker.linux.clock import boot_seconds
from txworker.linux.memfd import memory_file
from txworker.linux.procfs import ProcessTable
from txworker.process import bootstrap
from txworker.process.bootstrap import FAILED, NUMBER, REPORT, REQUEST
from txworker.process.job_stdin import JobStdin
from txworker.process.pipes.writer_watch import WriterWatch
from txworker.process.spawn_options import DEFAULT_OPTIONS, SpawnOptions
from txworker.shim.feeding import Feeding

PROGRAM = str(Path(bootstrap.__file__))
_COMMAND = (sys.executable, "-I", "-S", "-X", "utf8", PROGRAM)

WHY = "needs the shim, and this worker runs its jobs without one"


@implementer(IReactorProcess)
class ReactorSpawner:
    """
    umask and descriptor_limit (soft, hard) are what jobs inherit. A process is started inside unpinned(), so that it
    may run on every CPU. Call close() when no job runs. Reactor thread.
    """

    def __init__(
        self,
        reactor: Any,
        umask: int,
        descriptor_limit: tuple[int, int],
        unpinned: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        self._reactor = reactor
        self._inherited = {"umask": umask, "descriptor_limit": descriptor_limit}
        self._unpinned = unpinned
        self._watch = WriterWatch(reactor)
        self._null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self._starting: set[_Starting] = set()

    def spawnProcess(
        self,
        processProtocol: ProcessProtocol,
        executable: str,
        args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        path: str | None = None,
        uid: int | None = None,
        gid: int | None = None,
        usePTY: bool = False,
        childFDs: Mapping[int, int | str] | None = None,
        options: SpawnOptions = DEFAULT_OPTIONS,
        check: Callable[[], None] = lambda: None,
    ) -> ReactorTransport:
        """
        As ShimSpawner.spawnProcess.

        Raises:
            NotSupported: the options need the shim.
            OSError: there is no process; or `started` fails with it.
            ValueError: usePTY, uid or gid.
            Exception: whatever check() raises.
        """
        if uid is not None or gid is not None or usePTY:
            raise ValueError("usePTY, uid and gid are not supported")
        _check_supported(options)
        check()
        fds = childFDs or {}
        request = {
            **self._inherited,
            "argv": list(args or [executable]),
            "env": dict(os.environ if env is None else env),
            "directory": path,
            "separate_stderr": fds.get(2) == "r",
            "tag": options.tag,
            "oom_score_adj": options.oom_score_adj,
        }
        starting = _Starting(processProtocol, request, options.ahead, self._starting.discard)
        given = fds.get(0)
        if given is None and not options.feed:
            self._spawn(starting, request, self._null)
        else:
            self._spawn_fed(starting, request, None if given is None else int(given), options.feed)
        return starting.transport

    def adopt(
        self,
        protocol: ProcessProtocol,
        job_id: str,
        pid: int,
        pipes: Sequence[int],
        stdin: Mapping[str, Any] | None = None,
    ) -> Any:
        """Not possible: no job outlives its worker."""
        raise NotImplementedError(f"job {job_id} has no shim")

    def close(self) -> None:
        """Kill the processes that have not executed their job."""
        for starting in list(self._starting):
            starting.kill()
        if self._null >= 0:
            os.close(self._null)
            self._null = -1

    def _spawn_fed(self, starting: _Starting, request: Mapping[str, Any], given: int | None, feed: bool) -> None:
        """As _spawn(), with a pipe as stdin. given: a file with its first bytes."""
        read_end, write_end = os.pipe()
        feeding = Feeding(self._watch, write_end, starting.transport.fed)
        starting.transport.feeding = feeding
        try:
            if given is not None:
                feeding.put(os.dup(given), ends=not feed)
            self._spawn(starting, request, read_end)
        except BaseException:
            feeding.close()
            raise
        finally:
            os.close(read_end)
        if feed:
            starting.transport.hold_stdin()
        feeding.start()

    def _spawn(self, starting: _Starting, request: Mapping[str, Any], stdin: int) -> None:
        stderr = "r" if request["separate_stderr"] else self._null
        with memory_file(json.dumps(request).encode("ascii"), "request") as said, self._unpinned():
            fds = {0: stdin, 1: "r", 2: stderr, REPORT: "r", REQUEST: said}
            try:
                self._reactor.spawnProcess(starting, _COMMAND[0], _COMMAND, env=None, childFDs=fds)
            except OSError as error:  # of the process, or of its pipes
                raise OSError(error.errno, error.strerror, "clone") from error
        self._starting.add(starting)


def _check_supported(options: SpawnOptions) -> None:
    for name, _, soft, _ in options.limits:
        raise NotSupported(name, soft, WHY)
    if options.terminal is not None:
        raise NotSupported("tty", True, WHY)
    for name in ("user", "nice", "cgroup"):
        if value := getattr(options, name):
            raise NotSupported(name, value, WHY)


class ReactorTransport(proxyForInterface(IProcessTransport, "process")):  # type: ignore[misc]  # made at run time
    """
    Twisted's process, with what JobProcess needs beyond it (as ChildTransport has it).

    Twisted reaps a process as soon as it exits; from then on its pid may be another process's.
    """

    _log = Logger()
    pid = 0

    def __init__(self) -> None:
        self.process: Any = None
        self.usage = Usage()  # unknown: Twisted reaps without asking for it
        self.core_dumped = self.cgroup_removed = False
        self.started_at = self.exited_at = 0.0
        self.started: Deferred[ReactorTransport] = Deferred()
        self.feeding: Feeding | None = None  # of a job with stdin
        self.stdin: JobStdin | None = None  # of a job that was started with feed

    def hold_stdin(self) -> None:
        """The job was started with feed."""
        assert self.feeding is not None
        self.stdin = JobStdin(self._feed, self.feeding.record())

    def fed(self) -> None:
        """What was fed is in the pipe, or the input is closed."""
        if self.stdin is not None and self.feeding is not None:
            self.stdin.fed(self.feeding.record())

    def exited(self, reason: Failure) -> None:
        """The process exited and was reaped."""
        self.exited_at = time.time()
        status: int | None = getattr(reason.value, "status", None)
        self.core_dumped = bool(status) and os.WCOREDUMP(status or 0)

    def signalGroup(self, number: int) -> None:
        """
        Signal every process of the process group, its leader included.

        Raises:
            ProcessExitedAlready: the process exited; its pid may be another process's.
        """
        if self.process is None or self.process.pid is None:
            raise ProcessExitedAlready()
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError as error:
            raise ProcessExitedAlready() from error
        except PermissionError as error:
            self._log.warn("Process group {pid} may not be signalled: {error}", pid=self.pid, error=error)

    def release(self, keep: bool) -> None:
        """The process is reaped already; its stdin is closed, unless kept leftovers have bytes of it to read."""
        if self.stdin is not None:
            self.stdin.close()
        if self.feeding is not None:
            (self.feeding.end if keep else self.feeding.close)()

    def exit_untold(self) -> bool:
        """Whether the process has exited and was not reaped yet."""
        pid: int | None = None if self.process is None else self.process.pid
        return pid is not None and ProcessTable().awaits_parent(pid)

    def enforce(self, reason: str, kill_at: float) -> None:
        """Does nothing: no job outlives its worker."""

    def leave(self) -> Deferred[None]:
        """Fires at once: the job ends with the worker, so nothing is handed over."""
        return succeed(None)

    def abandon(self) -> Deferred[None]:
        """Not possible: its exit is always known."""
        raise NotImplementedError("a job without a shim cannot outlive one")

    def _feed(self, data: bytes, end: bool) -> None:
        assert self.feeding is not None
        with memory_file(data, "stdin") if data else nullcontext() as file:
            self.feeding.add(-1 if file is None else os.dup(file), end)


class _Starting(ProcessProtocol):
    """
    Stands between Twisted's process and the job's protocol, and holds all calls back until the exec has succeeded.

    decided(self) is called once, when it is known whether the exec has succeeded.
    """

    def __init__(
        self,
        protocol: ProcessProtocol,
        request: Mapping[str, Any],
        ahead: float,
        decided: Callable[[_Starting], None],
    ) -> None:
        self.transport: ReactorTransport = ReactorTransport()
        self._protocol = protocol
        self._request = request
        self._ahead = ahead
        self._decided = decided
        self._report = b""
        self._runs: bool | None = None
        self._killed = False
        self._waiting: list[Callable[[], None]] = []
        self._status: Failure | None = None

    def makeConnection(self, transport: Any) -> None:
        """Twisted: the bootstrap runs."""
        self.transport.process = transport
        self.transport.pid = transport.pid

    def kill(self) -> None:
        """Do not let it execute the job."""
        self._killed = True
        with suppress(ProcessExitedAlready):
            self.transport.signalProcess("KILL")

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """Twisted: the bootstrap or the job wrote something."""
        if childFD == REPORT:
            self._report += data
        else:
            self._pass_on(lambda: self._protocol.childDataReceived(childFD, data))

    def childConnectionLost(self, childFD: int) -> None:
        """Twisted: a pipe has ended."""
        if childFD == REPORT:
            self._decide()
        else:
            self._pass_on(lambda: self._protocol.childConnectionLost(childFD))

    def processExited(self, reason: Failure) -> None:
        """Twisted: the process exited and was reaped."""
        self._status = reason
        self.transport.exited(reason)
        self._pass_on(lambda: self._protocol.processExited(reason))

    def processEnded(self, reason: Failure) -> None:
        """Twisted: the process exited and its pipes are closed."""
        if self._runs:
            self._protocol.processEnded(reason)
        else:
            if self.transport.feeding is not None:
                self.transport.feeding.close()
            self.transport.started.errback(self._failure(reason))

    def _decide(self) -> None:
        """The report has ended: by the exec, or because the bootstrap ended."""
        self._decided(self)
        self._runs = bool(self._report) and FAILED not in self._report and not self._killed
        waiting, self._waiting = self._waiting, []
        if self._runs:
            self.transport.started_at = boot_seconds() + self._ahead
            self._protocol.makeConnection(self.transport)
            self.transport.started.callback(self.transport)
            for call in waiting:
                call()

    def _pass_on(self, call: Callable[[], None]) -> None:
        if self._runs:
            call()
        elif self._runs is None:
            self._waiting.append(call)

    def _failure(self, reason: Failure) -> OSError:
        if self._killed:
            return OSError(errno.ESHUTDOWN, "the worker is stopping", "clone")
        if not self._report:
            why = f"{sys.executable} ended before the exec: {reason.getErrorMessage()}"
            return OSError(errno.ECHILD, why, "clone")
        said = self._report[self._report.index(FAILED) + 1 :]
        number, step = NUMBER.unpack_from(said)[0], said[NUMBER.size :].decode()
        filename = {"directory": self._request["directory"], "command": self._request["argv"][0]}.get(step, step)
        return OSError(number, os.strerror(number), filename)
