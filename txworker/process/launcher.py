"""From an order to a running process: opens what it needs, starts it, and puts together what belongs to it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

from txworker.base.reactor import Clock
from txworker.jobs import JobSpec
from txworker.jobs.held_process import HeldProcess
from txworker.leftovers.job_processes import LeftoverScan
from txworker.leftovers.tags import rlimit_tag_for
from txworker.linux.cgroup import Cgroups, JobCgroup
from txworker.linux.clock import boot_seconds
from txworker.linux.memfd import memory_file
from txworker.ports import Listener
from txworker.process.arguments import ArgumentLimit
from txworker.process.environ import environment
from txworker.process.exec_diagnosis import Subject
from txworker.process.job_process import JobProcess, Patience
from txworker.process.launch_errors import to_worker_error
from txworker.process.limits import kernel_limits
from txworker.process.shim_spawner import SAME_PIPE
from txworker.process.spawn_options import DEFAULT_OPTIONS, SpawnOptions


class Spawner(Protocol):
    """
    An IReactorProcess, as far as it is used here, and what there is beyond it: ShimSpawner, ReactorSpawner.

    spawnProcess takes `options` and `check` beside what Twisted has, and its result has `started`.
    """

    def spawnProcess(self, processProtocol: Any, executable: str, *args: Any, **kwargs: Any) -> Any: ...

    def adopt(self, protocol: Any, job_id: str, pid: int, pipes: Any) -> Any: ...

    def enforce(self, job_id: str, reason: str, kill_at: float) -> None: ...


@dataclass(frozen=True)
class JobDefaults:
    """
    How and where processes run. directory is theirs unless the order names one; base_environment is what they inherit.

    options is what every job gets before its first instruction; keep_leftovers leaves alone what a job that is
    done left behind, unless the order says otherwise.
    """

    base_environment: Mapping[str, str]
    directory: str
    options: SpawnOptions = DEFAULT_OPTIONS
    keep_leftovers: bool = False


class Launcher:
    """Starts jobs' processes, and takes over those that an earlier worker has started. Reactor thread."""

    def __init__(
        self,
        spawner: Spawner,
        clock: Clock,
        scan: LeftoverScan,
        cgroups: Cgroups | None,
        defaults: JobDefaults,
        patience: Patience,
    ) -> None:
        self.scan = scan
        self._spawner = spawner
        self._clock = clock
        self._cgroups = cgroups
        self._defaults = defaults
        self._patience = patience

    def check(self, spec: JobSpec) -> None:
        """
        Any thread.

        Raises:
            InvalidRequest: no process can be made of that order, whatever there is on the machine.
        """
        self._arguments.check(spec)

    @cached_property
    def _arguments(self) -> ArgumentLimit:
        return ArgumentLimit(self._defaults.base_environment)

    async def launch(
        self,
        job_id: str,
        spec: JobSpec,
        listener: Listener,
        check: Callable[[], None] = lambda: None,
        now: Callable[[], float] = time.time,
    ) -> JobProcess:
        """
        Start the order's process. Takes about a millisecond, two with limits, longer behind others.

        check() is called last thing before the shim is asked for it, perhaps again; now() is the time as the job has
        it.

        Raises:
            TxWorkerError: it could not be started; nothing is left behind. Or whatever check() raises.
        """
        cgroup = None if self._cgroups is None else self._cgroups.of(job_id)
        process = self._process(job_id, spec, listener, cgroup)
        try:
            await self._start(job_id, spec, process.protocol, cgroup, check, now() - boot_seconds())
        except BaseException:
            process.launch_failed()
            raise
        return process

    def take_over(self, job_id: str, spec: JobSpec, listener: Listener, held: HeldProcess) -> JobProcess:
        """
        The process of a job that an earlier worker has started: it runs, or has exited meanwhile.

        Raises:
            OSError: its pipes cannot be watched.
        """
        cgroup = None if self._cgroups is None else self._cgroups.of(job_id, held.cgroup)
        process = self._process(job_id, spec, listener, cgroup)
        process.parts.timeout_at = held.timeout_at
        process.parts.last_output = held.last_output
        self._spawner.adopt(process.protocol, job_id, held.pid, held.pipes)
        return process

    def _process(self, job_id: str, spec: JobSpec, listener: Listener, cgroup: JobCgroup | None) -> JobProcess:
        def enforce(reason: str, kill_at: float) -> None:
            self._spawner.enforce(job_id, reason, kill_at)

        keep = spec.leftovers == "keep" if spec.leftovers else self._defaults.keep_leftovers
        return JobProcess(job_id, spec, listener, self._clock, self.scan, cgroup, self._patience, keep, enforce)

    async def _start(
        self,
        job_id: str,
        spec: JobSpec,
        protocol: Any,
        cgroup: JobCgroup | None,
        check: Callable[[], None],
        ahead: float,
    ) -> None:
        directory = os.path.join(self._defaults.directory, spec.directory)
        argv = spec.argv
        given = environment(self._defaults.base_environment, spec, job_id, directory)
        try:
            with memory_file(spec.stdin, "stdin") if spec.stdin else nullcontext() as stdin:
                transport = self._spawner.spawnProcess(
                    protocol,
                    argv[0],
                    argv,
                    given,
                    directory,
                    childFDs={0: stdin, 1: "r", 2: "r" if spec.separate_stderr else SAME_PIPE},
                    options=self._options(job_id, spec, cgroup, ahead),
                    check=check,
                )
                await transport.started
        except OSError as error:
            subject = Subject.of(self._defaults.options.user)
            raise to_worker_error(error, argv[0], directory, given, subject) from error

    def _options(self, job_id: str, spec: JobSpec, cgroup: JobCgroup | None, ahead: float) -> SpawnOptions:
        return replace(
            self._defaults.options,
            job_id=job_id,
            ahead=ahead,
            limits=kernel_limits(spec.limits),
            cgroup=None if cgroup is None else cgroup.path,
            tag=rlimit_tag_for(job_id),
            timeout_seconds=spec.timeout_seconds,
            quiet_seconds=spec.quiet_timeout_seconds,
            grace_seconds=self._patience.grace_seconds,
            max_output=spec.limits.max_output_bytes,
        )
