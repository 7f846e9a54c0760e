"""An IReactorProcess over the shim: the process that is asked for is the shim's, its pipes and its exit are told us."""

from __future__ import annotations

import os
import signal
from collections import ChainMap
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorProcess
from twisted.internet.protocol import ProcessProtocol
from zope.interface import implementer

from txworker.base.reactor import WatchingReactor
from txworker.process.intermediate_pipes import IntermediatePipes
from txworker.process.preparation import NOTHING, Preparation
from txworker.process.shim_link import Start
from txworker.process.transport import ChildTransport
from txworker.shim.messages import Message

SAME_PIPE = "="
"""In childFDs: this descriptor shares the pipe of descriptor 1, so that the order of writes is kept."""


class Shim(Protocol):
    """What is asked of the shim (process/shim.py)."""

    def start(self, start: Start) -> None: ...

    def adopt(self, job_id: str, child: Any) -> None: ...

    def release(self, job_id: str, keep: bool) -> None: ...

    def enforce(self, job_id: str, reason: str, kill_at: float) -> None: ...


@implementer(IReactorProcess)
class Spawner:
    """
    Nothing is done for each running child when one is launched or exits: no scan of descriptors, no waitpid.

    base_environment: what the shim knows as the environment that every job inherits.
    """

    def __init__(
        self,
        reactor: WatchingReactor,
        shim: Shim,
        base_environment: Mapping[str, str],
        intermediate: IntermediatePipes | None = None,
    ) -> None:
        self._intermediate = intermediate
        self._reactor = reactor
        self._shim = shim
        self._base = base_environment

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
        preparation: Preparation = NOTHING,
        check: Callable[[], None] = lambda: None,
    ) -> ChildTransport:
        """
        As IReactorProcess has it; in childFDs 0 is a descriptor of ours or None, 1 is "r", 2 is "r" or SAME_PIPE.

        Reactor thread. The child leads its own session. It runs, or could not be started, when the result's `started`
        fires; until then descriptors of ours must stay open. uid and gid are part of the preparation. check() is called
        last thing before the shim is asked, perhaps again; what it raises is what `started` fails with.

        Raises:
            ValueError: something is asked for that is not offered here. `started` fails with OSError: then there is no
                child; `filename` is the directory, the executable or the step that failed.
        """
        if uid is not None or gid is not None or usePTY:
            raise ValueError("usePTY is not offered; uid and gid belong into the preparation")
        fds = childFDs or {}
        transport = self._transport(processProtocol, preparation.job_id)
        transport.started = Deferred()
        message = self._message(args or [executable], env, path, fds, preparation)
        stdin = [int(fds[0])] if message["stdin"] else []

        def began(pid: int, pipes: Sequence[int], at: float) -> ChildTransport:
            transport.started_at = at
            self._begin(transport, pid, pipes)
            return transport

        self._shim.start(Start(message, stdin, check, began, transport.started.errback))
        return transport

    def adopt(self, protocol: ProcessProtocol, job_id: str, pid: int, pipes: Sequence[int]) -> ChildTransport:
        """
        The transport of a process that an earlier worker had started, from now on ours.

        Raises:
            OSError: no descriptor can be watched any more.
        """
        transport = self._transport(protocol, job_id)
        transport.begin(pid, dict(enumerate(pipes, 1)))
        self._shim.adopt(job_id, transport)
        return transport

    def enforce(self, job_id: str, reason: str, kill_at: float) -> None:
        """What the shim is to enforce should this worker die (ShimLink.enforce)."""
        self._shim.enforce(job_id, reason, kill_at)

    def _transport(self, protocol: ProcessProtocol, job_id: str) -> ChildTransport:
        def release(keep: bool) -> None:
            self._shim.release(job_id, keep)

        return ChildTransport(self._reactor, protocol, release, self._intermediate)

    def _begin(self, transport: ChildTransport, pid: int, pipes: Sequence[int]) -> None:
        try:
            transport.begin(pid, dict(enumerate(pipes, 1)))
        except OSError as error:  # a child that cannot be watched must not run
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
            for fd in pipes:
                os.close(fd)
            transport.release(keep=False)
            transport.started.errback(error)
        else:
            transport.started.callback(transport)

    def _message(
        self,
        argv: Sequence[str],
        env: Mapping[str, str] | None,
        directory: str | None,
        fds: Mapping[int, int | str],
        preparation: Preparation,
    ) -> Message:
        added, whole = self._environment(env)
        return {
            "type": "spawn",
            "job": preparation.job_id,
            "ahead": preparation.ahead,
            "argv": list(argv),
            "env": added,
            "whole_env": whole,
            "directory": directory,
            "stdin": fds.get(0) is not None,
            "separate_stderr": fds.get(2) == "r",
            "tag": preparation.tag,
            "limits": preparation.limits,
            "user": preparation.user,
            "nice": preparation.nice,
            "oom_score_adj": preparation.oom_score_adj,
            "cgroup": preparation.cgroup,
            "timeout": preparation.timeout_seconds,
            "quiet": preparation.quiet_seconds,
            "grace": preparation.grace_seconds,
            "max_output": preparation.max_output,
        }

    def _environment(self, env: Mapping[str, str] | None) -> tuple[dict[str, str], bool]:
        """Of a ChainMap over the base only what is added has to be said; otherwise all of it."""
        if isinstance(env, ChainMap) and len(env.maps) == 2 and env.maps[1] is self._base:
            return dict(env.maps[0]), False
        return dict(os.environ if env is None else env), True
