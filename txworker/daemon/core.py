"""
Everything below the interfaces: the lease, the store, the output directory, the processes and the worker.

Imported when the service starts, not before, as assembly.py is.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from txworker.base.logs import Logger
from txworker.config import Config, Jobs
from txworker.daemon.directories import NotUsable, check_state_directory, open_output_directory
from txworker.daemon.processes import Processes
from txworker.daemon.refusals import check_not_stopped
from txworker.daemon.start_context import StartContext
from txworker.daemon.unfinished_jobs import KeptLeftovers, ShimLoss, take_over_jobs
from txworker.jobs.errors import StoreBroken
from txworker.linux.clock import boot_ticks
from txworker.output.output_directory import OutputDirectory
from txworker.ports import Observer, World
from txworker.process.shim_waiting import ShimUnusable
from txworker.store.jobs import JobStore
from txworker.store.lease import Lease, take_lease
from txworker.worker.policy import Policy
from txworker.worker.readiness import STORE, Readiness
from txworker.worker.worker import Worker

_log = Logger()


@dataclass(frozen=True)
class Core:
    """Everything below the interfaces, with an earlier worker's jobs taken over."""

    store: JobStore
    outputs: OutputDirectory
    processes: Processes
    kept: KeptLeftovers
    worker: Worker


def own_lease(config: Config) -> Lease:
    """
    The lease on the state directory; from now on no other worker uses it.

    Raises:
        NotUsable, Unusable: as assemble().
    """
    check_state_directory(config.jobs.state_directory)
    lease = take_lease(config.jobs.state_directory, config.worker.name)
    _log.info("This is worker {name}, instance {instance}.", name=lease.name, instance=lease.instance)
    return lease


def assemble_core(
    config: Config, reactor: Any, context: StartContext, lease: Lease, readiness: Readiness, observer: Observer
) -> Core:
    """
    Open everything, and take an earlier worker's jobs over.

    Raises:
        NotUsable, Unusable, StoppedEarly: as assemble().
    """
    jobs = config.jobs
    outputs = open_output_directory(jobs.output_directory, observer)
    processes = _processes(jobs, reactor, context, lease)
    if processes.shim is not None:
        outputs.incomplete = processes.shim.output_incomplete
    # The store is opened, and upgraded, after the shim: if that refuses this version, the older worker is needed again.
    trouble, fsync = StoreTrouble(readiness), jobs.durability == "machine"
    store = JobStore(jobs.state_directory, fsync, reactor, trouble.changed, lease, observer)
    kept = KeptLeftovers(store, by_default=jobs.leftovers == "keep")
    worker = _worker(jobs, processes, outputs, store, reactor, observer)
    check_not_stopped()
    take_over_jobs(worker, store, outputs, processes, kept, observer)
    shim_loss = ShimLoss(worker, reactor, observer, readiness, lambda job_ids: processes.end_stale(job_ids, "", kept))

    def settle(shim_pid: int, unanswered: Collection[str]) -> None:
        _record_parent(lease, processes)
        shim_loss.settle(shim_pid, unanswered)

    processes.on_shim_loss(settle, shim_loss.ended)
    _record_parent(lease, processes)
    return Core(store, outputs, processes, kept, worker)


def _record_parent(lease: Lease, processes: Processes) -> None:
    with suppress(OSError):  # the store itself reports a disk that refuses
        lease.set_jobs(processes.cgroups, processes.parent)


def _processes(jobs: Jobs, reactor: Any, context: StartContext, lease: Lease) -> Processes:
    output = os.open(jobs.output_directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return Processes(jobs, reactor, context.environment, context.umask, f"txworker-{lease.id}", output)
    except ShimUnusable as error:
        raise NotUsable(f"jobs.state_directory: {error}") from error


def _worker(
    config: Jobs,
    processes: Processes,
    outputs: OutputDirectory,
    store: JobStore,
    reactor: Any,
    observer: Observer,
) -> Worker:
    elapsed = store.lease.elapsed
    world = World(time.time, elapsed, boot_ticks, lambda: str(uuid.uuid4()), lambda call: reactor.callLater(0, call))
    return Worker(processes.launcher, outputs, store, policy_of(config), world, observer)


def policy_of(config: Jobs) -> Policy:
    """What the worker decides by, as configured."""
    return Policy(
        config.max_running,
        config.stop_grace_seconds,
        config.limits,
        config.ceilings,
        config.leftovers == "keep",
        str(config.directory),
        config.user,
    )


class StoreTrouble:
    """Reports to the log and to the readiness whether the store can be written and read."""

    def __init__(self, readiness: Readiness) -> None:
        self._readiness = readiness

    def changed(self, trouble: StoreBroken | None) -> None:
        """None: it can be used again."""
        if trouble is None:
            _log.info("The store can be used again.")
            self._readiness.end(STORE)
        else:
            _log.error("No new jobs until the store can be used again: {error}.", error=trouble)
            self._readiness.begin(STORE, str(trouble))
