"""Puts the rooms process/ and leftovers/ together, as the configuration and the machine require."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred

from txworker.base.logs import Logger
from txworker.config import Jobs
from txworker.config.checks import only_with_shim
from txworker.daemon.descriptors import DescriptorLimit
from txworker.daemon.version import own_version
from txworker.leftovers.job_processes import LeftoverScan
from txworker.leftovers.process_table_scan import ProcessTableScan
from txworker.leftovers.scan import DescendantScan
from txworker.linux.cgroup import Cgroups, end_elsewhere, end_stale
from txworker.linux.cpus import CpuPinning
from txworker.linux.oom import own_oom_score_adj
from txworker.linux.own_cgroup import own_cgroup_path
from txworker.linux.procfs import Process, ProcessTable
from txworker.process.environ import base_environment, with_configured
from txworker.process.identity import account_of, identity
from txworker.process.launcher import JobDefaults, Launcher, Spawner
from txworker.process.pipes.epoll_set import EpollSet
from txworker.process.pipes.intermediate import IntermediatePipes
from txworker.process.reactor_spawner import ReactorSpawner
from txworker.process.reconnecting_shim import ReconnectingShim
from txworker.process.shim_handshake import Handshake, ShimCannotRun, check_none_needed, connect
from txworker.process.shim_spawner import ShimSpawner
from txworker.process.shim_waiting import ShimUnusable
from txworker.process.spawn_options import SpawnOptions, oom_score_adj_of_jobs
from txworker.worker.takeover import ShimJobs

DRAIN_SECONDS = 2.0
"""How long output is awaited when a job's process has exited and one of its leftovers holds the pipe open."""

COPYING_THREADS = 10
"""
Threads in the reactor's pool, which copy large output; each may block on the disk. All are started at once,
because a job may use up the machine's threads later.
"""

IsKept = Callable[[str], bool]
"""Whether that job is finished and its leftovers stay alive."""

_log = Logger()


@dataclass(frozen=True)
class _Backend:
    """What starts processes, the shim or the reactor, and what finds leftovers. close(leave): see Processes.close."""

    spawner: Spawner
    finder: LeftoverScan
    close: Callable[[bool], None]
    shim: ReconnectingShim | None = None
    cgroups: Cgroups | None = None


class Processes:
    """
    Launches jobs through the shim, or by the reactor where the configuration or the machine allows no shim.
    Reactor thread.

    environment and umask are what jobs inherit. name: of the cgroup that has the jobs' cgroups. output_directory: an
    open descriptor.

    Raises:
        ShimUnusable: a shim is there and cannot be used; or none can run, and the configuration needs one.
    """

    def __init__(
        self,
        config: Jobs,
        reactor: Any,
        environment: Mapping[str, str],
        umask: int,
        name: str,
        output_directory: int,
    ) -> None:
        reactor.getThreadPool().adjustPoolsize(COPYING_THREADS, COPYING_THREADS)
        self.descriptors = DescriptorLimit()
        self._config = config
        self._reactor = reactor
        self._name = name
        self._pinning = CpuPinning(config.pin_worker)
        self._keep = config.leftovers == "keep"
        inherited = base_environment(environment, str(config.directory), account_of(config.user))
        self._inherited = with_configured(inherited, config.environment)
        self._backend = self._with_shim(umask, output_directory) or self._without_shim(umask)
        self.launcher = Launcher(
            self._backend.spawner,
            reactor,
            self._backend.finder,
            self._backend.cgroups,
            _defaults(config, self._inherited),
        )

    @property
    def shim(self) -> ReconnectingShim | None:
        """None: jobs run without one."""
        return self._backend.shim

    def on_shim_loss(self, settle: Callable[[int, Collection[str]], None], ended: Callable[[], None]) -> None:
        """
        From now on ended() is called when the shim ends; settle(), as ReconnectingShim.lost(), when the next one runs.

        Not an argument of __init__: settling is the worker's, and the worker is made with this object's launcher.
        """
        shim = self._backend.shim
        if shim is not None:

            def renew_scan_and_settle(pid: int, unanswered: Collection[str]) -> None:
                self.launcher.scan.close()
                self.launcher.scan = self._scan(shim)
                settle(pid, unanswered)

            shim.lost, shim.ended = renew_scan_and_settle, ended

    @property
    def shim_jobs(self) -> ShimJobs:
        """The jobs that the shim held when this worker connected to it."""
        shim = self._backend.shim
        if shim is None:
            return ShimJobs()
        return ShimJobs({held.job_id: held for held in shim.held}, shim.starting, complete=shim.complete)

    @property
    def can_leave(self) -> bool:
        """Whether jobs can outlive this worker."""
        return self._backend.shim is not None

    @property
    def parent(self) -> Process | None:
        """The parent of the jobs' processes; None: it has gone."""
        return ProcessTable().read(os.getpid() if self.shim is None else self.shim.pid)

    @property
    def cgroups(self) -> str:
        """The directory of the jobs' cgroups; empty when they have none."""
        return "" if self._backend.cgroups is None else str(self._backend.cgroups.path)

    def serving(self) -> None:
        """Tell the shim that this worker serves."""
        if self._backend.shim is not None:
            self._backend.shim.connection.serving()

    def release(self, job_id: str, keep: bool) -> None:
        """Let the shim forget that job. keep: its leftovers may go on writing output."""
        if self._backend.shim is not None:
            self._backend.shim.connection.release(job_id, keep)

    def end_stale(self, job_ids: Collection[str], elsewhere: str, is_kept: IsKept) -> int:
        """
        End what is left in the cgroups that an earlier worker made for these jobs; how many processes that were.

        elsewhere: the directory where that worker had the cgroups; empty: unknown. If it is not this worker's
        directory, all processes in it are ended, except kept leftovers and jobs that run on, and it is removed.
        """
        ended = 0
        if self._backend.cgroups is not None:
            ended += sum(end_stale(self._backend.cgroups.path / job_id) for job_id in job_ids)
        if elsewhere and elsewhere != self.cgroups:
            ended += end_elsewhere(Path(elsewhere), self._name, self._to_empty(job_ids, Path(elsewhere), is_kept))
        return ended

    def _to_empty(self, job_ids: Collection[str], elsewhere: Path, is_kept: IsKept) -> Collection[str] | None:
        """The jobs that are to be ended by their cgroups in that directory; None: all."""
        if self._keep or self.shim_jobs.held:
            return job_ids
        there = {path.name for path in elsewhere.iterdir()} if elsewhere.is_dir() else set()
        kept = {name for name in there if is_kept(name)}
        return there - kept if kept else None

    def close(self, leave: bool, is_kept: IsKept) -> Deferred[None]:
        """
        Close everything. leave: jobs stay with the shim, for the next worker; otherwise the processes of all jobs are
        killed, except kept leftovers.
        """
        return maybeDeferred(self._close, leave, is_kept)

    def _close(self, leave: bool, is_kept: IsKept) -> None:
        if not self._keep and not leave:
            self.launcher.scan.kill_all(is_kept)
        self.launcher.scan.close()
        self._backend.close(leave)
        if self._backend.cgroups is not None and not leave:
            self._backend.cgroups.close()

    def _with_shim(self, umask: int, output_directory: int) -> _Backend | None:
        """None: the configuration wants no shim, or the machine allows none."""
        config = self._config
        if not config.shim:
            check_none_needed(config.state_directory)
            return None
        defaults = {
            "environment": self._inherited,
            "umask": umask,
            "descriptor_limit": self.descriptors.original,
            "unattended_seconds": config.unattended_seconds,
        }
        pipes = IntermediatePipes(COPYING_THREADS)

        def connect_shim() -> Handshake:
            with self._pinning.unpinned():  # the shim, and so every job, inherits the CPUs of this thread
                return connect(
                    self._reactor, config.state_directory, defaults, output_directory, pipes.descriptors, own_version()
                )

        epoll_set = EpollSet(self._reactor, self._pinning)
        try:
            shim = ReconnectingShim(epoll_set, self._reactor, connect_shim)
        except ShimCannotRun as error:
            epoll_set.close()
            pipes.close()
            self._accept_no_shim(error)
            return None
        cgroups = _cgroups(self._name) if config.use_cgroups else None
        spawner = ShimSpawner(epoll_set, lambda: shim.connection, self._inherited, pipes)
        return _Backend(spawner, self._scan(shim), shim.close, shim, cgroups)

    def _accept_no_shim(self, error: ShimCannotRun) -> None:
        key = only_with_shim(self._config)
        if key:
            raise ShimUnusable(f"{error}; and {key} needs it") from error
        _log.warn("Jobs run without the shim, and end with the worker: {error}.", error=error)

    def _without_shim(self, umask: int) -> _Backend:
        spawner = ReactorSpawner(self._reactor, umask, self.descriptors.original, self._pinning.unpinned)
        return _Backend(spawner, ProcessTableScan(), lambda leave: spawner.close())

    def _scan(self, shim: ReconnectingShim) -> DescendantScan:
        scan = DescendantScan(self._reactor, shim.pid, shim.connection.thread_id)
        for job_id, pid in shim.kept:
            scan.keep_earlier(job_id, pid)
        return scan


def _cgroups(name: str) -> Cgroups | None:
    try:
        return Cgroups(Path(own_cgroup_path()), name)
    except (OSError, NotImplementedError) as error:
        _log.info("Jobs get no cgroup of their own: {error}.", error=error)
        return None


def _defaults(config: Jobs, environment: Mapping[str, str]) -> JobDefaults:
    user = identity(config.user, config.group) if config.user or config.group else None
    oom_score_adj = oom_score_adj_of_jobs(config.oom_score_adj, own_oom_score_adj())
    return JobDefaults(
        environment,
        str(config.directory),
        SpawnOptions("", user=user, nice=config.nice, oom_score_adj=oom_score_adj),
        config.leftovers == "keep",
        config.stop_grace_seconds,
        DRAIN_SECONDS,
    )
