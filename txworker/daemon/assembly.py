"""
The composition root: makes every part of the worker from the configuration, and hands each the others that it needs.

Imported when the service starts, not before: twistd forks to become a daemon, and no gRPC object may exist then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool

from txworker.config import Config, load_again
from txworker.daemon import timers
from txworker.daemon.core import Core, assemble_core, own_lease
from txworker.daemon.doors import Doors, make_doors
from txworker.daemon.drain import Drain
from txworker.daemon.handover import Handover
from txworker.daemon.lifetime import StagedServices, StopStep
from txworker.daemon.live_settings import LiveSettings
from txworker.daemon.notify import Notifier, status_updates, watchdog
from txworker.daemon.orphans import orphan_reaper
from txworker.daemon.processes import DRAIN_SECONDS
from txworker.daemon.reactor_threads import bound_join
from txworker.daemon.reload import Reload, RunningConfig
from txworker.daemon.start_context import StartContext
from txworker.daemon.stopping import close_store, stop_jobs
from txworker.daemon.tracing_door import TracingDoor, both, tracing_door
from txworker.ports import NO_OBSERVER, Observer
from txworker.rpc.bridge import Bridge
from txworker.rpc.health import Health
from txworker.rpc.server import NAMES
from txworker.worker.readiness import STOPPING, Readiness
from txworker.worker.retention import RetentionService
from txworker.worker.worker import Worker

if TYPE_CHECKING:
    from txworker.daemon.web_door import WebDoor


@dataclass(frozen=True)
class Assembled:
    """The services, to be started; what is called when they are; and what signals call."""

    services: StagedServices
    serving: Callable[[], None]
    drain: Drain
    handover: Handover
    reload: Reload


@dataclass(frozen=True)
class _Parts:
    """What the stages are made of."""

    running: RunningConfig
    core: Core
    readiness: Readiness
    handover: Handover
    retention: RetentionService
    doors: Doors
    web: Sequence[Service]
    page: Sequence[Service]
    tracing: TracingDoor


def assemble(config: Config, reactor: Any, context: StartContext) -> Assembled:
    """
    Make the worker. An earlier worker's unfinished jobs are taken over, or written down as lost, before this returns.

    Raises:
        NotUsable: the output directory or the shim cannot be used, or the state directory is not safe.
        Unusable: the state directory cannot be used.
        StoppedEarly: the worker is to stop.
    """
    bound_join(reactor.getThreadPool())
    web = _web_door(config, reactor)
    observer = NO_OBSERVER if web is None else web.observer
    bridge = Bridge(reactor, observer)
    health = Health(bridge, NAMES)
    readiness = Readiness(health.announce)
    lease = own_lease(config)
    tracing = tracing_door(config.tracing, lease.name, lease.instance)
    core = assemble_core(config, reactor, context, lease, readiness, both(observer, tracing.observer))
    worker, processes = core.worker, core.processes

    handover = Handover(worker, config.jobs.at_stop == "leave", processes.can_leave, reactor.stop)
    retention = timers.retention(config.jobs, reactor, core.store, core.outputs, worker.catalog.viewers, observer)
    running = RunningConfig(config)
    live = LiveSettings(worker, processes.launcher, retention, handover, context.log_output)
    reload = _reload(running, reactor, context, live, processes.can_leave, observer)
    identity = (core.store.lease.name, core.store.lease.instance)
    doors = make_doors(
        running,
        reactor,
        worker,
        bridge,
        health,
        readiness,
        handover,
        reload.request,
        processes.descriptors,
        identity,
        None if web is None else observer,
        tracing.tracer,
    )
    on_web = [] if web is None else web.services(running, worker, doors, readiness, processes, identity)
    page = [] if web is None or web.page is None else [web.page]
    parts = _Parts(running, core, readiness, handover, retention, doors, on_web, page, tracing)
    services = StagedServices(_stages(parts, reactor, context.notifier))
    return Assembled(services, processes.serving, doors.drain, handover, reload)


def _stages(parts: _Parts, reactor: Any, notifier: Notifier) -> list[Sequence[Service]]:
    """Everything that starts and stops, in the order of starting."""
    core, doors, running = parts.core, parts.doors, parts.running
    worker = core.worker

    def refuse_jobs() -> None:
        parts.handover.settle()
        worker.refuse()
        parts.readiness.begin(STOPPING, "the worker is stopping and takes no new jobs")

    def end_jobs() -> Deferred[None]:
        within_seconds = running.config.jobs.stop_grace_seconds + DRAIN_SECONDS + 1.0
        return stop_jobs(worker, parts.handover, reactor, within_seconds)

    return [
        [StopStep("log", limit.close) for limit in doors.rate_limits],
        [StopStep("tracing", lambda: parts.tracing.close(reactor))],
        watchdog(notifier, reactor),
        [
            StopStep("store", lambda: close_store(core.store, reactor)),
            timers.heartbeat(core.store),
            timers.output_watch(core.outputs, reactor, parts.readiness),
        ],
        [
            StopStep("processes", lambda: core.processes.close(parts.handover.leaves, core.kept)),
            *timers.shim_watches(
                running.config.jobs.state_directory, core.processes.shim, core.store.lease, parts.readiness
            ),
        ],
        parts.web,
        [doors.server],
        parts.page,
        [
            *status_updates(notifier, lambda: _status(doors, worker), reactor),
            timers.socket_watch(running.config.jobs.state_directory),
        ],
        [
            StopStep("jobs", end_jobs),
            *([] if doors.registration is None else [doors.registration]),
            parts.retention,
            timers.memory_trim(reactor),
            *orphan_reaper(),
        ],
        [StopStep("refusal", refuse_jobs)],
    ]


def _status(doors: Doors, worker: Worker) -> str:
    """For `systemctl status`."""
    doing = "Draining" if doors.drain.begun else f"Serving on {doors.server.address}"
    return f"{doing}; unfinished jobs: {len(worker.running_ids())}."


def _web_door(config: Config, reactor: Any) -> WebDoor | None:
    """None: [web] is not configured."""
    if not config.web.host:
        return None
    from txworker.daemon.web_door import WebDoor  # not before: what it imports need not be installed

    return WebDoor(config.web, reactor)


def _reload(
    running: RunningConfig,
    reactor: Any,
    context: StartContext,
    live: LiveSettings,
    runs_shim: bool,
    observer: Observer,
) -> Reload:
    """The service manager is told when a reload begins and ends, the observer whether it succeeded."""
    notifier = context.notifier
    source = running.config.source  # as at the start: None means worker.toml if there is one, at each reload

    def read_config() -> Deferred[Config]:
        """In a thread: the files may be on a disk that does not answer."""
        return deferToThreadPool(reactor, reactor.getThreadPool(), load_again, source, context.directory)

    return Reload(running, read_config, live.apply, runs_shim, notifier.reloading, notifier.ready, observer.reloaded)
