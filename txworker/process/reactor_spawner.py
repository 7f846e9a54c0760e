"""
Jobs without a shim: processes of Twisted's own reactor, which end with the worker. What differs is a table in
docs/architecture.md.

The reactor executes bootstrap.py, which becomes the job. The job's protocol hears nothing before that has succeeded.
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
from txworker.process import bootstrap
from txworker.process.bootstrap import FAILED, NUMBER, REPORT, REQUEST
from txworker.process.spawn_options import DEFAULT_OPTIONS, SpawnOptions

PROGRAM = str(Path(bootstrap.__file__))
_COMMAND = (sys.executable, "-I", "-S", "-X", "utf8", PROGRAM)

WHY = "needs the shim, and this worker runs its jobs without one"


@implementer(IReactorProcess)
class ReactorSpawner:
    """
    umask and descriptor_limit (soft, hard) are what jobs inherit; roaming() is entered while a process is made, so that
    it may run on every CPU. close() when no job runs. Reactor thread.
    """

    def __init__(
        self,
        reactor: Any,
        umask: int,
        descriptor_limit: tuple[int, int],
        roaming: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        self._reactor = reactor
        self._inherited = {"umask": umask, "descriptor_limit": descriptor_limit}
        self._roaming = roaming
        self._nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
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
            NotSupported: the options asks for what only the shim gives. Or whatever check() raises.
            OSError: there is no process; or `started` fails with it.
            ValueError: as there.
        """
        if uid is not None or gid is not None or usePTY:
            raise ValueError("usePTY, uid and gid are not offered")
        _check_offered(options)
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
        self._spawn(starting, request, self._nothing if fds.get(0) is None else int(fds[0]))
        return starting.transport

    def adopt(self, protocol: ProcessProtocol, job_id: str, pid: int, pipes: Sequence[int]) -> Any:
        """There is nothing to be taken over: no job outlives its worker."""
        raise NotImplementedError(f"job {job_id} has no shim")

    def close(self) -> None:
        """What has not come to its exec is killed; none of it is a job."""
        for starting in list(self._starting):
            starting.kill()
        if self._nothing >= 0:
            os.close(self._nothing)
            self._nothing = -1

    def _spawn(self, starting: _Starting, request: Mapping[str, Any], stdin: int) -> None:
        stderr = "r" if request["separate_stderr"] else self._nothing
        with memory_file(json.dumps(request).encode("ascii"), "request") as said, self._roaming():
            fds = {0: stdin, 1: "r", 2: stderr, REPORT: "r", REQUEST: said}
            try:
                self._reactor.spawnProcess(starting, _COMMAND[0], _COMMAND, env=None, childFDs=fds)
            except OSError as error:  # one of Python's own process, or of a pipe for it
                raise OSError(error.errno, error.strerror, "clone") from error
        self._starting.add(starting)


def _check_offered(options: SpawnOptions) -> None:
    for name, _, soft, _ in options.limits:
        raise NotSupported(name, soft, WHY)
    for name in ("user", "nice", "cgroup"):
        if value := getattr(options, name):
            raise NotSupported(name, value, WHY)


class ReactorTransport(proxyForInterface(IProcessTransport, "process")):  # type: ignore[misc]  # made at run time
    """
    Twisted's process, with what a job asks beyond it (transport.py has the same for the shim's).

    Twisted waits for a process at once when it exits: its number may be another's from then on.
    """

    _log = Logger()
    pid = 0

    def __init__(self) -> None:
        self.process: Any = None
        self.usage = Usage()  # Twisted's wait tells nothing of it
        self.core_dumped = False
        self.started_at = self.exited_at = 0.0
        self.started: Deferred[ReactorTransport] = Deferred()

    def exited(self, reason: Failure) -> None:
        """It was waited for."""
        self.exited_at = time.time()
        status: int | None = getattr(reason.value, "status", None)
        self.core_dumped = bool(status) and os.WCOREDUMP(status or 0)

    def signalGroup(self, number: int) -> None:
        """
        Signal every process of the child's process group, the child included.

        Raises:
            ProcessExitedAlready: it has exited; the number may belong to another process by now.
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
        """It was waited for already."""

    def enforce(self, reason: str, kill_at: float) -> None:
        """Does nothing: no job outlives its worker."""

    def leave(self) -> Deferred[None]:
        """It ends with the worker, so there is nothing to hand over."""
        return succeed(None)

    def abandon(self) -> Deferred[None]:
        """Its exit is always told."""
        raise NotImplementedError("a job without a shim cannot outlive one")


class _Starting(ProcessProtocol):
    """
    Between Twisted's process and the job's protocol: until it is known whether the exec has succeeded all else waits.

    decided(self) is told once, when it is known.
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
        """It shall not come to its exec."""
        self._killed = True
        with suppress(ProcessExitedAlready):
            self.transport.signalProcess("KILL")

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """Twisted: the bootstrap has said something, or the job."""
        if childFD == REPORT:
            self._report += data
        else:
            self._pass_on(lambda: self._protocol.childDataReceived(childFD, data))

    def childConnectionLost(self, childFD: int) -> None:
        """Twisted: one of the pipes has ended."""
        if childFD == REPORT:
            self._decide()
        else:
            self._pass_on(lambda: self._protocol.childConnectionLost(childFD))

    def processExited(self, reason: Failure) -> None:
        """Twisted: it was waited for."""
        self._status = reason
        self.transport.exited(reason)
        self._pass_on(lambda: self._protocol.processExited(reason))

    def processEnded(self, reason: Failure) -> None:
        """Twisted: its pipes are closed, too."""
        if self._runs:
            self._protocol.processEnded(reason)
        else:
            self.transport.started.errback(self._failure(reason))

    def _decide(self) -> None:
        """The report has ended: by the exec, or with the bootstrap."""
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
            return OSError(errno.EPIPE, "the worker is stopping", "clone")
        if not self._report:
            why = f"{sys.executable} ended before the exec: {reason.getErrorMessage()}"
            return OSError(errno.ECHILD, why, "clone")
        said = self._report[self._report.index(FAILED) + 1 :]
        number, step = NUMBER.unpack_from(said)[0], said[NUMBER.size :].decode()
        filename = {"directory": self._request["directory"], "command": self._request["argv"][0]}.get(step, step)
        return OSError(number, os.strerror(number), filename)
