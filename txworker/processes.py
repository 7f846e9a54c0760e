"""The room of processes, put together as the configuration and the machine have it."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from twisted.internet import process

from txworker.config import Jobs
from txworker.cores import Cores
from txworker.logs import Logger
from txworker.process.adopting import adopt_orphans
from txworker.process.census import Census
from txworker.process.cgroup import Cgroups, end_elsewhere, end_stale, own_cgroup
from txworker.process.child import Starts, quickest_start
from txworker.process.descriptors import DescriptorLimit
from txworker.process.identity import home_of, identity
from txworker.process.launcher import Launcher, Places
from txworker.process.native import NativeStart
from txworker.process.place import Here, best_place
from txworker.process.prepared import Preparation, PreparedStart
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
    Launches jobs; close() when none is left. Reactor thread.

    environment and umask are what they inherit; `name` is that of the cgroup with theirs.
    """

    def __init__(self, config: Jobs, reactor: Any, environment: Mapping[str, str], umask: int, name: str) -> None:
        reactor.getThreadPool().adjustPoolsize(COPYING_THREADS, COPYING_THREADS)
        self.descriptors = DescriptorLimit()
        cores = Cores(config.pin_worker)
        self._name = name
        self._keep = config.leftovers == "keep"
        self._census = Census(reactor)
        self._cgroups = _cgroups(name) if config.use_cgroups else None
        self._stop_adopting = _adopting(self._census)
        start, descendants = quickest_start(), self._census.descendants
        limit = self.descriptors
        prepared = PreparedStart(descendants.spare, descendants.forget, limit.original)
        self._starts = Starts(start, prepared, limit)
        self._place = best_place(reactor, umask, cores) if isinstance(start, NativeStart) else Here(umask, cores)
        if self._place.thread_id:
            self._census.watch(self._place.thread_id)
        self.launcher = Launcher(
            Spawner(reactor, self._starts, self.descriptors, self._place, cores),
            reactor,
            self._census,
            self._cgroups,
            _places(config, environment),
            config.stop_grace_seconds,
            DRAIN_SECONDS,
        )

    @property
    def cgroups(self) -> str:
        """The directory of the jobs' cgroups; empty when they have none."""
        return "" if self._cgroups is None else str(self._cgroups.path)

    def end_stale(self, job_ids: Collection[str], elsewhere: str) -> int:
        """
        End what is left in the cgroups that an earlier worker made for these jobs; how many processes that were.

        elsewhere: the directory that it had for them. Where that is not ours all in there end, unless leftovers are
        kept, and it is removed.
        """
        ended = 0
        if self._cgroups is not None:
            ended += sum(end_stale(self._cgroups.path / job_id) for job_id in job_ids)
        if elsewhere and elsewhere != self.cgroups:
            ended += end_elsewhere(Path(elsewhere), self._name, job_ids if self._keep else None)
        return ended

    def close(self) -> None:
        """Nothing of any job runs on, unless it is to be kept."""
        self._stop_adopting()
        if not self._keep:
            self._census.kill_everybody()
        self._place.close(self._starts.close)
        self._census.close()
        if self._cgroups is not None:
            self._cgroups.close()


def _cgroups(name: str) -> Cgroups | None:
    try:
        return Cgroups(own_cgroup(), name)
    except (OSError, NotImplementedError) as error:
        _log.info("Jobs get no cgroup of their own: {error}.", error=error)
        return None


def _adopting(census: Census) -> Callable[[], None]:
    try:
        return adopt_orphans(process.reapProcessHandlers, census)
    except OSError as error:
        _log.warn("What jobs leave behind is found by its session only: {error}.", error=error)
        return lambda: None


def _places(config: Jobs, environment: Mapping[str, str]) -> Places:
    user = identity(config.user, config.group) if config.user or config.group else None
    return Places(
        {**environment, **home_of(config.user)} if config.user else environment,
        str(config.directory),
        os.open(os.devnull, os.O_RDONLY),
        Preparation(user=user, nice=config.nice, oom_score_adj=config.oom_score_adj),
        config.leftovers == "keep",
    )
