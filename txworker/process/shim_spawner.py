"""An IReactorProcess over the shim: the shim starts the process, sends its pipes, and reports its exit."""

from __future__ import annotations

import errno
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
from txworker.process.spawn_options import DEFAULT_OPTIONS, SpawnOptions
from txworker.process.spawn_queue import SpawnRequest
from txworker.process.transport import ChildTransport, HoldingShim
from txworker.shim.messages import SHORT, Message


class Shim(HoldingShim, Protocol):
    """What a spawner needs of the shim (shim_connection.py)."""

    def spawn(self, request: SpawnRequest) -> None:
        """Start a process when the number of launches under way allows it; the request has the callbacks."""

    def adopt(self, job_id: str, child: Any) -> None:
        """The transport `child` gets the exit of that job's process from now on."""


@implementer(IReactorProcess)
class ShimSpawner:
    """
    Launching a process takes the same time however many run: no descriptors are scanned, no pids are waited for.

    shim() returns the current one. base_environment: what every job inherits, as the shim has it.
    """

    def __init__(
        self,
        reactor: WatchingReactor,
        shim: Callable[[], Shim],
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
        As IReactorProcess has it. In childFDs 0 is the descriptor of a file with the content of stdin, or None; 1 is
        "r", 2 is "r" or SAME_PIPE; all three are ignored if options.terminal is set. The process leads its own session.
        check() is called immediately before the shim is asked, possibly more than once. Reactor thread.

        The result's `started` fires when the process runs, and fails when there is none: with what check() raised, or
        with OSError; its `filename` is the directory, the executable or the step that failed. The caller's
        descriptors must stay open until then.

        Raises:
            ValueError: usePTY, uid or gid.
        """
        if uid is not None or gid is not None or usePTY:
            raise ValueError("a terminal, uid and gid are part of the options")
        fds = childFDs or {}
        shim = self._shim()
        transport = self._transport(processProtocol, options.job_id, shim)
        transport.started = Deferred()
        message = self._message(args or [executable], env, path, fds, options)
        stdin = [int(fds[0])] if message["stdin"] else []

        def began(pid: int, pipes: Sequence[int], report: Message) -> ChildTransport:
            """The shim has started the process, and has sent the read ends of its pipes."""
            transport.started_at = report["at"]
            transport.hold_stdin(report["stdin"])
            self._begin(transport, pid, pipes, complete=SHORT not in report)
            return transport

        shim.spawn(SpawnRequest(message, stdin, check, began, transport.started.errback))
        return transport

    def adopt(
        self,
        protocol: ProcessProtocol,
        job_id: str,
        pid: int,
        pipes: Sequence[int],
        stdin: Mapping[str, Any] | None = None,
    ) -> ChildTransport:
        """
        Take over a process that an earlier worker started, and its pipes. Returns its transport. stdin: as in messages.

        Raises:
            OSError: the pipes cannot be watched.
        """
        shim = self._shim()
        transport = self._transport(protocol, job_id, shim)
        transport.hold_stdin(stdin)
        transport.begin(pid, dict(enumerate(pipes, 1)))
        shim.adopt(job_id, transport)
        return transport

    def _transport(self, protocol: ProcessProtocol, job_id: str, shim: Shim) -> ChildTransport:
        return ChildTransport(self._reactor, job_id, protocol, shim, self._intermediate)

    def _begin(self, transport: ChildTransport, pid: int, pipes: Sequence[int], complete: bool) -> None:
        try:
            if not complete:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            transport.begin(pid, dict(enumerate(pipes, 1)))
        except OSError as error:  # a process must not run if its pipes are not here, or cannot be watched
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
            "stdin": fds.get(0) is not None and options.terminal is None,
            "feed": options.feed,
            "separate_stderr": fds.get(2) == "r",
            "terminal": options.terminal,
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
            "keep": options.keep_leftovers,
        }

    def _environment(self, env: Mapping[str, str] | None) -> tuple[dict[str, str], bool]:
        """The variables to send, and whether they are all: of a ChainMap over the base only the first map is sent."""
        if isinstance(env, ChainMap) and len(env.maps) == 2 and env.maps[1] is self._base:
            return dict(env.maps[0]), False
        return dict(os.environ if env is None else env), True
