"""
The composition root: makes every part of the worker from the configuration, and hands each the others that it needs.

Imported when the service starts, not before: twistd forks to become a daemon, and no gRPC object may exist then.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool

from txworker.base.logs import Logger
from txworker.config import Config, Jobs, load
from txworker.daemon import timers
from txworker.daemon.directories import NotUsable, check_state_directory, open_output_directory
from txworker.daemon.doors import Doors, make_doors
from txworker.daemon.drain import Drain
from txworker.daemon.handover import Handover
from txworker.daemon.lifetime import StagedServices, StopStep
from txworker.daemon.notify import status_updates, watchdog
from txworker.daemon.orphans import orphan_reaper
from txworker.daemon.processes import DRAIN_SECONDS, Processes
from txworker.daemon.reload import Change, Reload, RunningConfig
from txworker.daemon.start_context import StartContext
from txworker.daemon.stopping import close_store, stop_jobs
from txworker.daemon.unfinished_jobs import KeptLeftovers, ShimLoss, take_over_jobs
from txworker.jobs.errors import StoreBroken
from txworker.linux.clock import boot_ticks
from txworker.output.output_directory import OutputDirectory
from txworker.ports import NO_OBSERVER, Observer, World
from txworker.process.shim_handshake import ShimUnusable
from txworker.rpc.bridge import Bridge
from txworker.rpc.health import Health
from txworker.rpc.server import NAMES
from txworker.store.jobs import JobStore
from txworker.store.lease import Lease, take_lease
from txworker.worker.policy import Policy
from txworker.worker.readiness import STOPPING, STORE, Readiness
from txworker.worker.worker import Worker

if TYPE_CHECKING:
    from txworker.daemon.web_door import WebDoor

_log = Logger()


@dataclass(frozen=True)
class Assembled:
    """The services, to be started; and what signals call."""

    services: StagedServices
    drain: Drain
    handover: Handover
    reload: Reload


@dataclass(frozen=True)
class _Core:
    """Everything below the interfaces, with an earlier worker's jobs taken over."""

    store: JobStore
    outputs: OutputDirectory
    processes: Processes
    kept: KeptLeftovers
    worker: Worker


def assemble(config: Config, reactor: Any, context: StartContext) -> Assembled:
    """
    Make the worker. An earlier worker's unfinished jobs are taken over, or written down as lost, before this returns.

    Raises:
        NotUsable: the output directory or the shim cannot be used, or the state directory is not safe.
        Unusable: the state directory cannot be used.
    """
    jobs = config.jobs
    web = _web_door(config, reactor)
    observer = NO_OBSERVER if web is None else web.observer
    bridge = Bridge(reactor, observer)
    health = Health(bridge, NAMES)
    readiness = Readiness(health.announce)
    core = _assemble_core(config, reactor, context, readiness, observer)
    worker, processes = core.worker, core.processes

    handover = Handover(worker, jobs.at_stop == "leave", processes.can_leave, reactor.stop)
    retention = timers.retention(jobs, reactor, core.store, core.outputs, worker.catalog.viewers, observer)

    def apply(new: Config) -> None:
        worker.set_policy(_policy(new.jobs))
        processes.launcher.set_grace_seconds(new.jobs.stop_grace_seconds)
        retention.set_limits(timers.retention_limits(new.jobs))
        handover.configure(new.jobs.at_stop == "leave")
        context.log_output.set_level(new.log.level)

    running = RunningConfig(config)
    notifier = context.notifier
    read = _reader(config, reactor, context)
    told = observer.reloaded
    reload = Reload(running, read, apply, processes.can_leave, notifier.reloading, notifier.ready, told)

    def reload_or_check(check_only: bool) -> Deferred[list[Change]]:
        return reload.check() if check_only else reload.begin()

    identity = (core.store.lease.name, core.store.lease.instance)
    interfaces = make_doors(
        running,
        reactor,
        worker,
        bridge,
        health,
        readiness,
        handover,
        reload_or_check,
        processes.descriptors,
        identity,
        None if web is None else observer,
    )
    registrations = [] if interfaces.registration is None else [interfaces.registration]

    def refuse() -> None:
        worker.refuse()
        readiness.begin(STOPPING, "the worker is stopping and takes no new jobs")

    def end_jobs() -> Deferred[None]:
        within_seconds = running.config.jobs.stop_grace_seconds + DRAIN_SECONDS + 1.0
        return stop_jobs(worker, handover, reactor, within_seconds)

    stages: list[list[Service]] = [
        [StopStep("log", limit.close) for limit in interfaces.rate_limits],
        watchdog(notifier, reactor),
        [
            StopStep("store", lambda: close_store(core.store, reactor)),
            timers.heartbeat(core.store, jobs.state_directory),
            timers.output_watch(core.outputs, reactor),
        ],
        [StopStep("processes", lambda: processes.close(handover.leaves, core.kept))],
        [] if web is None else web.services(running, worker, interfaces, readiness, processes, identity),
        [interfaces.server],
        status_updates(notifier, lambda: _status(interfaces, worker), reactor),
        [
            StopStep("jobs", end_jobs),
            *registrations,
            retention,
            timers.memory_trim(reactor),
            *orphan_reaper(),
        ],
        [StopStep("refusal", refuse)],
    ]
    return Assembled(StagedServices(stages), interfaces.drain, handover, reload)


def _status(interfaces: Doors, worker: Worker) -> str:
    """For `systemctl status`."""
    doing = "Draining" if interfaces.drain.begun else f"Serving on {interfaces.server.address}"
    return f"{doing}; unfinished jobs: {len(worker.running_ids())}."


def _web_door(config: Config, reactor: Any) -> WebDoor | None:
    """None: [web] is not configured."""
    if not config.web.host:
        return None
    from txworker.daemon.web_door import WebDoor  # not before: what it imports need not be installed

    return WebDoor(config.web, reactor)


def _reader(config: Config, reactor: Any, context: StartContext) -> Callable[[], Deferred[Config]]:
    """Reads the configuration again, in a thread: its files may be on a disk that does not answer."""

    def read() -> Deferred[Config]:
        return deferToThreadPool(reactor, reactor.getThreadPool(), load, config.source, context.directory)

    return read


def _assemble_core(
    config: Config, reactor: Any, context: StartContext, readiness: Readiness, observer: Observer
) -> _Core:
    jobs = config.jobs
    check_state_directory(jobs.state_directory)
    lease = take_lease(jobs.state_directory, config.worker.name)
    _log.info("This is worker {name}, instance {instance}.", name=lease.name, instance=lease.instance)
    outputs = open_output_directory(jobs.output_directory, observer)
    processes = _processes(jobs, reactor, context, lease)
    # The store is opened, and upgraded, after the shim: if that refuses this version, the older worker is needed again.
    trouble, fsync = StoreTrouble(readiness), jobs.durability == "machine"
    store = JobStore(jobs.state_directory, fsync, reactor, trouble.changed, lease, observer)
    kept = KeptLeftovers(store, by_default=jobs.leftovers == "keep")
    worker = _worker(jobs, processes, outputs, store, reactor, observer)
    take_over_jobs(worker, store, outputs, processes, kept, observer)
    shim_loss = ShimLoss(worker, reactor, observer, readiness)
    processes.on_shim_loss(shim_loss.settle, shim_loss.ended)
    with suppress(OSError):  # the store itself reports a disk that refuses
        store.lease.set_cgroups(processes.cgroups)
    return _Core(store, outputs, processes, kept, worker)


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
    return Worker(processes.launcher, outputs, store, _policy(config), world, observer)


def _policy(config: Jobs) -> Policy:
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
    """Reports to the log and to the readiness whether the store can be written."""

    def __init__(self, readiness: Readiness) -> None:
        self._readiness = readiness

    def changed(self, trouble: StoreBroken | None) -> None:
        """None: it can be written again."""
        if trouble is None:
            _log.info("The store can be written again.")
            self._readiness.end(STORE)
        else:
            _log.error("No new jobs until the store can be written again: {error}.", error=trouble)
            self._readiness.begin(STORE, str(trouble))
