"""From a job's spec to its running process."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, Protocol

from txworker.base.reactor import Clock
from txworker.jobs import JobSpec
from txworker.jobs.held_process import HeldProcess
from txworker.leftovers.job_processes import LeftoverScan
from txworker.leftovers.tags import rlimit_tag_for
from txworker.linux.cgroup import Cgroups, JobCgroup
from txworker.linux.clock import boot_seconds
from txworker.linux.memfd import memory_file
from txworker.ports import Listener, OutputWriter
from txworker.process.arguments import ArgumentLimit
from txworker.process.environ import environment
from txworker.process.exec_diagnosis import Subject
from txworker.process.job_leftovers import JobLeftovers
from txworker.process.job_process import JobProcess
from txworker.process.launch_errors import to_worker_error
from txworker.process.limits import kernel_limits
from txworker.process.spawn_options import DEFAULT_OPTIONS, SAME_PIPE, SpawnOptions
from txworker.process.time_limits import TimeLimits


class Spawner(Protocol):
    """
    An IReactorProcess and what the launcher needs beyond it: ShimSpawner or ReactorSpawner.

    spawnProcess() also takes `options` and `check`; the transport that it returns has `started`.
    """

    def spawnProcess(self, processProtocol: Any, executable: str, *args: Any, **kwargs: Any) -> Any:
        """Start a process; the `started` of its transport tells whether it runs."""

    def adopt(self, protocol: Any, job_id: str, pid: int, pipes: Any, stdin: Any) -> Any:
        """Take over a process that an earlier worker started. Raises OSError: its pipes cannot be watched."""


@dataclass(frozen=True)
class JobDefaults:
    """
    How processes run where their spec says nothing else.

    base_environment: what every job inherits.
    options: what every process is started with.
    keep_leftovers: what a job leaves behind may run on.
    grace_seconds, drain_seconds: as in TimeLimits.
    """

    base_environment: Mapping[str, str]
    directory: str
    options: SpawnOptions = DEFAULT_OPTIONS
    keep_leftovers: bool = False
    grace_seconds: float = 10.0
    drain_seconds: float = 2.0


class Launcher:
    """ports.Launcher. `scan` may be replaced when a new shim runs. Reactor thread."""

    def __init__(
        self, spawner: Spawner, clock: Clock, scan: LeftoverScan, cgroups: Cgroups | None, defaults: JobDefaults
    ) -> None:
        self.scan = scan
        self._spawner = spawner
        self._clock = clock
        self._cgroups = cgroups
        self._defaults = defaults
        self._arguments = ArgumentLimit(defaults.base_environment)

    def check(self, spec: JobSpec) -> None:
        """
        Any thread.

        Raises:
            InvalidRequest: the spec cannot be executed, whatever is on the machine.
        """
        self._arguments.check(spec)

    async def launch(
        self,
        job_id: str,
        spec: JobSpec,
        output: OutputWriter,
        listener: Listener,
        check: Callable[[], None] = lambda: None,
        now: Callable[[], float] = time.time,
    ) -> JobProcess:
        """
        Start the job's process. Takes about a millisecond, two with limits, longer behind other launches.

        check() is called immediately before the process is requested, possibly more than once. now() is the time by the
        job's clock.

        Raises:
            TxWorkerError: the process could not be started; nothing is left of it.
            Exception: whatever check() raises.
        """
        cgroup = None if self._cgroups is None else self._cgroups.of(job_id)
        process = self._process(job_id, spec, output, listener, cgroup)
        try:
            await self._start(process, spec, self._options(job_id, spec, cgroup, now() - boot_seconds()), check)
        except BaseException:
            process.launch_failed()
            raise
        return process

    def set_grace_seconds(self, grace_seconds: float) -> None:
        """The grace period of processes that are started from now on, where their limits end them."""
        self._defaults = replace(self._defaults, grace_seconds=grace_seconds)

    def take_over(
        self, job_id: str, spec: JobSpec, output: OutputWriter, listener: Listener, held: HeldProcess
    ) -> JobProcess:
        """
        The process that an earlier worker started; it runs, or has exited since.

        Raises:
            OSError: its pipes cannot be watched; they stay the caller's.
        """
        cgroup = None if self._cgroups is None else self._cgroups.of(job_id, held.cgroup)
        process = self._process(job_id, spec, output, listener, cgroup)
        process.resume_limits(held)
        try:
            self._spawner.adopt(process, job_id, held.pid, held.pipes, held.stdin)
        except BaseException:
            process.launch_failed()
            raise
        return process

    def _process(
        self, job_id: str, spec: JobSpec, output: OutputWriter, listener: Listener, cgroup: JobCgroup | None
    ) -> JobProcess:
        defaults = self._defaults
        limits = TimeLimits(
            defaults.grace_seconds,
            defaults.drain_seconds,
            spec.timeout_seconds,
            spec.quiet_timeout_seconds,
            spec.lease_seconds,
        )
        leftovers = JobLeftovers(job_id, self.scan, cgroup, self._keeps_leftovers(spec))
        return JobProcess(job_id, output, listener, self._clock, limits, leftovers, spec.tty)

    async def _start(
        self, process: JobProcess, spec: JobSpec, options: SpawnOptions, check: Callable[[], None]
    ) -> None:
        directory = os.path.join(self._defaults.directory, spec.directory)
        argv = spec.argv
        given = environment(self._defaults.base_environment, spec, options.job_id, directory)
        try:
            with memory_file(spec.stdin, "stdin") if spec.stdin else nullcontext() as stdin:
                transport = self._spawner.spawnProcess(
                    process,
                    argv[0],
                    argv,
                    given,
                    directory,
                    childFDs={0: stdin, 1: "r", 2: "r" if spec.separate_stderr else SAME_PIPE},
                    options=options,
                    check=check,
                )
                await transport.started
        except OSError as error:
            subject = Subject.of(options.user)
            raise to_worker_error(error, argv[0], directory, given, subject) from error

    def _options(self, job_id: str, spec: JobSpec, cgroup: JobCgroup | None, ahead: float) -> SpawnOptions:
        return replace(
            self._defaults.options,
            job_id=job_id,
            ahead=ahead,
            limits=kernel_limits(spec.limits),
            cgroup=None if cgroup is None else cgroup.path,
            tag=rlimit_tag_for(job_id),
            terminal=spec.terminal_size,
            timeout_seconds=spec.timeout_seconds,
            quiet_seconds=spec.quiet_timeout_seconds,
            grace_seconds=self._defaults.grace_seconds,
            max_output=spec.limits.max_output_bytes,
            feed=spec.feed,
            keep_leftovers=self._keeps_leftovers(spec),
        )

    def _keeps_leftovers(self, spec: JobSpec) -> bool:
        return spec.leftovers == "keep" if spec.leftovers else self._defaults.keep_leftovers
