"""From an order to a running child: opens what it needs, starts it, and puts together what belongs to it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from txworker.jobs import EndReason, JobSpec, Usage
from txworker.process.arguments import ArgumentRoom
from txworker.process.brand import brand
from txworker.process.census import Census
from txworker.process.cgroup import Cgroups, JobCgroup
from txworker.process.child import stdin_file
from txworker.process.clearing import Clearing, Family
from txworker.process.environ import environment
from txworker.process.limits import kernel_limits
from txworker.process.parts import RunParts
from txworker.process.prepared import Preparation
from txworker.process.protocol import JobProtocol, Sink
from txworker.process.refusals import in_our_words
from txworker.process.run import Run, begin, new_run
from txworker.process.spawner import SAME_PIPE
from txworker.waiting import Clock


class Starter(Protocol):
    """IReactorProcess, as far as it is used here."""

    def spawnProcess(self, processProtocol: Any, executable: str, *args: Any, **kwargs: Any) -> Any: ...


class Listener(Protocol):
    """Who hears what becomes of a child. Reactor thread."""

    def ready(self, child_fd: int) -> bool: ...

    def wrote(self, child_fd: int, data: bytes) -> None: ...

    def pour(self, child_fd: int, fd: int, most: int) -> int: ...

    def poured(self, child_fd: int) -> None: ...

    def overdue(self, reason: EndReason) -> None: ...

    def ended(self, exit_code: int | None, signal: int | None, usage: Usage, leftovers_ended: int) -> None: ...


@dataclass(frozen=True)
class Running:
    """A child that was started: its pid, and how to end it."""

    pid: int
    stop: Callable[[float], None]


@dataclass(frozen=True)
class Places:
    """
    How and where children run. directory is theirs unless the order names one; base_environment is what they inherit.

    no_input is an open descriptor that reads as nothing. preparation is what every job gets before its first
    instruction; keep_leftovers leaves alone what a job that is done left behind.
    """

    base_environment: Mapping[str, str]
    directory: str
    no_input: int
    preparation: Preparation = Preparation()
    keep_leftovers: bool = False


@dataclass(frozen=True)
class Launcher:
    """
    Starts children.

    grace_seconds is what a time limit gives between TERM and KILL; drain_seconds is how long what an exited child
    left behind may take to end, and then how long its output is waited for when somebody else holds the pipe.
    """

    starter: Starter
    clock: Clock
    census: Census
    cgroups: Cgroups | None
    places: Places
    grace_seconds: float
    drain_seconds: float

    def check(self, spec: JobSpec) -> None:
        """
        Any thread.

        Raises:
            InvalidRequest: no process can be made of that order, whatever there is on the machine.
        """
        self._arguments.check(spec)

    @cached_property
    def _arguments(self) -> ArgumentRoom:
        return ArgumentRoom(self.places.base_environment)

    async def launch(
        self, job_id: str, spec: JobSpec, listener: Listener, check: Callable[[], None] = lambda: None
    ) -> Running:
        """
        Start the order's process. Reactor thread; takes about a millisecond, two with limits, longer behind others.

        check() is called last thing before the process is made, in whatever thread.

        Raises:
            TxWorkerError: it could not be started; nothing is left behind. Or whatever check() raises.
        """
        cgroup = None if self.cgroups is None else self.cgroups.of(job_id)
        child = _Child(self, job_id, spec, listener, cgroup)
        try:
            transport = await self._start(job_id, spec, child.protocol, cgroup, check)
        except BaseException:
            child.never_was()
            if cgroup is not None:
                cgroup.kill()  # a preparer that died over it, or hung, may have made the child
                cgroup.remove()
            raise
        return Running(transport.pid, child.run.stop)

    async def _start(
        self,
        job_id: str,
        spec: JobSpec,
        protocol: JobProtocol,
        cgroup: JobCgroup | None,
        check: Callable[[], None],
    ) -> Any:
        directory = os.path.join(self.places.directory, spec.directory)
        argv = spec.argv
        always = self.places.preparation
        preparation = Preparation(
            kernel_limits(spec.limits),
            always.user,
            always.nice,
            always.oom_score_adj,
            None if cgroup is None else cgroup.path,
            brand(job_id),
        )
        try:
            with stdin_file(spec.stdin) if spec.stdin else nullcontext(self.places.no_input) as stdin:
                transport = self.starter.spawnProcess(
                    protocol,
                    argv[0],
                    argv,
                    environment(self.places.base_environment, spec, job_id),
                    directory,
                    childFDs={0: stdin, 1: "r", 2: "r" if spec.separate_stderr else SAME_PIPE},
                    preparation=preparation,
                    check=check,
                )
                return await transport.started
        except OSError as error:
            raise in_our_words(error, argv[0], directory) from error


class _Child:
    """What belongs together of one child: its run, who hears it, who is left of it."""

    def __init__(
        self, launcher: Launcher, job_id: str, spec: JobSpec, listener: Listener, cgroup: JobCgroup | None
    ) -> None:
        self._census = launcher.census
        self._job_id = job_id
        self._listener = listener
        self._leftovers = 0
        self._pid = launcher.census.expect(job_id)
        self._end: tuple[int | None, int | None, Usage] = (None, None, Usage())
        self._family = Family(job_id, launcher.census, cgroup)
        self._keep = launcher.places.keep_leftovers
        self.parts = RunParts(
            launcher.clock,
            listener.overdue,
            self._over,
            launcher.grace_seconds,
            launcher.drain_seconds,
            spec.timeout_seconds,
            spec.quiet_timeout_seconds,
            None if self._keep else Clearing(launcher.clock, job_id, self._family, self._cleared),
        )
        self.run: Run = new_run(self.parts)
        self.protocol = JobProtocol(self._started, self._exited, self._ended, self._sink(spec))

    def never_was(self) -> None:
        """It could not be started."""
        self._census.leave(self._pid)

    def _started(self, transport: Any) -> None:
        self._census.leave(self._pid)
        self._pid = transport.pid
        self._census.enter(self._pid, self._job_id)
        begin(self.run, self.parts, transport)

    def _sink(self, spec: JobSpec) -> Sink:
        listener = self._listener
        if spec.quiet_timeout_seconds is None:
            return Sink(listener.ready, listener.wrote, listener.pour, listener.poured)
        return Sink(self._ready, self._wrote, listener.pour, self._poured)

    def _ready(self, child_fd: int) -> bool:
        """It has printed, though that may have to wait."""
        self.parts.last_output = self.parts.clock.seconds()
        return self._listener.ready(child_fd)

    def _wrote(self, child_fd: int, data: bytes) -> None:
        self.parts.last_output = self.parts.clock.seconds()
        self._listener.wrote(child_fd, data)

    def _poured(self, child_fd: int) -> None:
        self.parts.last_output = self.parts.clock.seconds()
        self._listener.poured(child_fd)

    def _exited(self) -> None:
        self._census.exited(self._pid)
        self.run.exited()

    def _cleared(self, leftovers: int) -> None:
        self._leftovers = leftovers
        self.run.cleared()

    def _ended(self, exit_code: int | None, signal: int | None, usage: Usage) -> None:
        self._end = (exit_code, signal, usage)
        self.run.ended()

    def _over(self) -> None:
        if self._keep:
            self._family.close()
        self._census.leave(self._pid)
        self._listener.ended(*self._end, self._leftovers)
