"""The room of processes, put together as the configuration and the machine have it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred

from txworker.base.logs import Logger
from txworker.config import Jobs
from txworker.config.checks import only_with_shim
from txworker.daemon.descriptors import DescriptorLimit
from txworker.jobs.held import Held
from txworker.leftovers.census import Census
from txworker.leftovers.clearing import Finder
from txworker.leftovers.scan import Scan
from txworker.linux.cgroup import Cgroups, end_elsewhere, end_stale, own_cgroup
from txworker.linux.cpus import Cores
from txworker.process.environ import base_environment
from txworker.process.identity import account_of, identity
from txworker.process.intermediate_pipes import IntermediatePipes
from txworker.process.job_process import Patience
from txworker.process.launcher import JobDefaults, Launcher, Starter
from txworker.process.poller import Poller
from txworker.process.preparation import Preparation
from txworker.process.reactor_spawner import ReactorSpawner
from txworker.process.shim import Shim
from txworker.process.shim_start import Handshake, ShimCannotRun, ShimUnusable, check_none_needed, connect
from txworker.process.spawner import Spawner

DRAIN_SECONDS = 2.0
"""How long output is waited for when a job's process has exited but something it left behind holds the pipe."""

COPYING_THREADS = 10
"""
They copy what jobs pour, and are there from the beginning, whatever jobs do to the machine. The disk may hold up each.
"""

_log = Logger()


class Processes:
    """
    Launches jobs, through the shim or, where there is none, by the reactor; close() when none is left, or when those
    there are are left to the next worker. Reactor thread.

    is_kept(job_id): that job is over, and what it left behind is to be left alone.

    environment and umask are what jobs inherit; `name` is that of the cgroup with theirs. output_directory is open.

    Raises:
        ShimUnusable: there is a shim that cannot be used, or there can be none and what is configured needs one.
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
        limit = self.descriptors.original
        self._config = config
        self._reactor = reactor
        self._name = name
        self._cores = Cores(config.pin_worker)
        self._keep = config.leftovers == "keep"
        self.is_kept: Callable[[str], bool] = lambda job_id: False
        self._inherited = base_environment(environment, str(config.directory), account_of(config.user))
        self._close_starter: Callable[[bool], None] = lambda leave: None
        self._cgroups: Cgroups | None = None
        self.shim: Shim | None = None
        self.lost: Callable[[int], None] = lambda pid: None
        defaults = {
            "environment": self._inherited,
            "umask": umask,
            "descriptor_limit": limit,
            "unattended_seconds": config.unattended_seconds,
        }
        self.launcher = self._through_shim(defaults, output_directory) or self._by_reactor(umask, limit)

    @property
    def held(self) -> list[Held]:
        """The jobs that the shim has kept, at the beginning."""
        return [] if self.shim is None else self.shim.held

    @property
    def starting(self) -> list[str]:
        """The jobs whose start an earlier worker asked for, and which hangs."""
        return [] if self.shim is None else self.shim.starting

    @property
    def found(self) -> bool:
        """A shim was there already: an order that it knows nothing of never came to be a process."""
        return self.shim is not None and self.shim.found

    @property
    def can_leave(self) -> bool:
        """Jobs can outlive this worker."""
        return self.shim is not None

    def release(self, job_id: str, keep: bool) -> None:
        """The shim need not keep that job any more. keep: what it left may go on printing."""
        if self.shim is not None:
            self.shim.release(job_id, keep)

    @property
    def cgroups(self) -> str:
        """The directory of the jobs' cgroups; empty when they have none."""
        return "" if self._cgroups is None else str(self._cgroups.path)

    def end_stale(self, job_ids: Collection[str], elsewhere: str) -> int:
        """
        End what is left in the cgroups that an earlier worker made for these jobs; how many processes that were.

        elsewhere: the directory that it had for them. Where that is not ours all in there end, unless leftovers are
        kept or jobs that run on are there, and it is removed.
        """
        ended = 0
        if self._cgroups is not None:
            ended += sum(end_stale(self._cgroups.path / job_id) for job_id in job_ids)
        if elsewhere and elsewhere != self.cgroups:
            ended += end_elsewhere(Path(elsewhere), self._name, self._only(job_ids, Path(elsewhere)))
        return ended

    def _only(self, job_ids: Collection[str], elsewhere: Path) -> Collection[str] | None:
        """Whose cgroups elsewhere are to be emptied; None: all that there are."""
        if self._keep or self.held:
            return job_ids
        there = {place.name for place in elsewhere.iterdir()} if elsewhere.is_dir() else set()
        kept = {name for name in there if self.is_kept(name)}
        return there - kept if kept else None

    def close(self, leave: bool) -> Deferred[None]:
        """Nothing of any job runs on, unless jobs are left to the next worker or leftovers are kept."""
        return maybeDeferred(self._close, leave)

    def _close(self, leave: bool) -> None:
        if not self._keep and not leave:
            self.launcher.census.kill_everybody(self.is_kept)
        self.launcher.census.close()
        self._close_starter(leave)
        if self._cgroups is not None and not leave:
            self._cgroups.close()

    def _through_shim(self, defaults: Mapping[str, Any], output_directory: int) -> Launcher | None:
        """None: there is to be no shim, or there can be none."""
        config, reactor = self._config, self._reactor
        if not config.shim:
            check_none_needed(config.state_directory)
            return None
        pipes = IntermediatePipes(COPYING_THREADS)

        def connected() -> Handshake:
            with self._cores.roaming():  # jobs run on every CPU, and so does the shim that starts them
                return connect(
                    reactor, config.state_directory, defaults, output_directory, pipes.descriptors, _version()
                )

        poller = Poller(reactor, self._cores)
        try:
            self.shim = Shim(poller, reactor, connected)
        except ShimCannotRun as error:
            poller.close()
            pipes.close()
            self._accept_no_shim(error)
            return None
        self.shim.lost = self._shim_lost
        self._close_starter = self.shim.close
        self._cgroups = _cgroups(self._name) if config.use_cgroups else None
        return self._launcher(Spawner(poller, self.shim, self._inherited, pipes), self._census())

    def _accept_no_shim(self, error: ShimCannotRun) -> None:
        key = only_with_shim(self._config)
        if key:
            raise ShimUnusable(f"{error}; and {key} needs it") from error
        _log.warn("Jobs run without the shim, and end with the worker: {error}.", error=error)

    def _by_reactor(self, umask: int, descriptor_limit: tuple[int, int]) -> Launcher:
        spawner = ReactorSpawner(self._reactor, umask, descriptor_limit, self._cores.roaming)
        self._close_starter = lambda leave: spawner.close()
        return self._launcher(spawner, Scan())

    def _launcher(self, starter: Starter, census: Finder) -> Launcher:
        config = self._config
        patience = Patience(config.stop_grace_seconds, DRAIN_SECONDS)
        defaults = _defaults(config, self._inherited)
        return Launcher(starter, self._reactor, census, self._cgroups, defaults, patience)

    def _census(self) -> Census:
        assert self.shim is not None
        census = Census(self._reactor, self.shim.pid, self.shim.thread_id)
        for job_id, pid in self.shim.kept:
            census.keep(pid, job_id)
        return census

    def _shim_lost(self, pid: int) -> None:
        self.launcher.census.close()
        self.launcher.census = self._census()
        self.lost(pid)


def _cgroups(name: str) -> Cgroups | None:
    try:
        return Cgroups(own_cgroup(), name)
    except (OSError, NotImplementedError) as error:
        _log.info("Jobs get no cgroup of their own: {error}.", error=error)
        return None


def _defaults(config: Jobs, environment: Mapping[str, str]) -> JobDefaults:
    user = identity(config.user, config.group) if config.user or config.group else None
    return JobDefaults(
        environment,
        str(config.directory),
        Preparation("", user=user, nice=config.nice, oom_score_adj=config.oom_score_adj),
        config.leftovers == "keep",
    )


def _version() -> str:
    try:
        return version("txworker")
    except PackageNotFoundError:  # run from its source
        return "(not installed)"
