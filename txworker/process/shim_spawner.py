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
from txworker.process.pipes.intermediate import IntermediatePipes
from txworker.process.shim_connection import Start
from txworker.process.spawn_options import DEFAULT_OPTIONS, SpawnOptions
from txworker.process.transport import ChildTransport
from txworker.shim.messages import Message

SAME_PIPE = "="
"""In childFDs: this descriptor shares the pipe of descriptor 1, so that the order of writes is kept."""


class Shim(Protocol):
    """What is asked of the shim (process/reconnecting_shim.py)."""

    def start(self, start: Start) -> None: ...

    def adopt(self, job_id: str, child: Any) -> None: ...

    def release(self, job_id: str, keep: bool) -> None: ...

    def enforce(self, job_id: str, reason: str, kill_at: float) -> None: ...


@implementer(IReactorProcess)
class ShimSpawner:
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
        options: SpawnOptions = DEFAULT_OPTIONS,
        check: Callable[[], None] = lambda: None,
    ) -> ChildTransport:
        """
        As IReactorProcess has it; in childFDs 0 is a descriptor of ours or None, 1 is "r", 2 is "r" or SAME_PIPE.

        Reactor thread. The child leads its own session. It runs, or could not be started, when the result's `started`
        fires; until then descriptors of ours must stay open. uid and gid are part of the options. check() is called
        last thing before the shim is asked, perhaps again; what it raises is what `started` fails with.

        Raises:
            ValueError: something is asked for that is not offered here. `started` fails with OSError: then there is no
                child; `filename` is the directory, the executable or the step that failed.
        """
        if uid is not None or gid is not None or usePTY:
            raise ValueError("usePTY is not offered; uid and gid belong into the options")
        fds = childFDs or {}
        transport = self._transport(processProtocol, options.job_id)
        transport.started = Deferred()
        message = self._message(args or [executable], env, path, fds, options)
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
        """What the shim is to enforce should this worker die (ShimConnection.enforce)."""
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
        options: SpawnOptions,
    ) -> Message:
        added, whole = self._environment(env)
        return {
            "type": "spawn",
            "job": options.job_id,
            "ahead": options.ahead,
            "argv": list(argv),
            "env": added,
            "whole_env": whole,
            "directory": directory,
            "stdin": fds.get(0) is not None,
            "separate_stderr": fds.get(2) == "r",
            "tag": options.tag,
            "limits": options.limits,
            "user": options.user,
            "nice": options.nice,
            "oom_score_adj": options.oom_score_adj,
            "cgroup": options.cgroup,
            "timeout": options.timeout_seconds,
            "quiet": options.quiet_seconds,
            "grace": options.grace_seconds,
            "max_output": options.max_output,
        }

    def _environment(self, env: Mapping[str, str] | None) -> tuple[dict[str, str], bool]:
        """Of a ChainMap over the base only what is added has to be said; otherwise all of it."""
        if isinstance(env, ChainMap) and len(env.maps) == 2 and env.maps[1] is self._base:
            return dict(env.maps[0]), False
        return dict(os.environ if env is None else env), True
