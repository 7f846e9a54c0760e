"""
How the worker is put together: the only file that knows every room.

Imported when the service starts, not before: twistd forks to become a daemon, and nothing of gRPC may exist then.
"""

from __future__ import annotations

import os
import random
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from twisted.application.internet import TimerService
from twisted.application.service import Service
from twisted.internet import process
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure

from txworker.config import Config, GrpcServer, Jobs, Scheduler
from txworker.cores import Cores
from txworker.drain import Drain
from txworker.jobs import Retention
from txworker.jobs.errors import StoreBroken
from txworker.lifetime import InOrder, Stopping
from txworker.output.shelf import Shelf
from txworker.process.adopting import adopt_orphans
from txworker.process.apart import Here, best_place
from txworker.process.census import Census
from txworker.process.cgroup import Cgroups, end_stale, own_cgroup
from txworker.process.child import Starts, quickest_start
from txworker.process.descriptors import DescriptorLimit
from txworker.process.identity import home_of, identity
from txworker.process.launcher import Launcher, Places
from txworker.process.native import NativeStart
from txworker.process.prepared import Preparation, PreparedStart
from txworker.process.spawner import Spawner
from txworker.restart import recover
from txworker.retention import Sweeper
from txworker.rpc import server as rpc
from txworker.rpc.bridge import Bridge
from txworker.rpc.control import ControlServicer, control_door
from txworker.rpc.servicer import WorkerServicer
from txworker.rpc.streams import StreamSlots
from txworker.rpc.tls import CertificateFiles, server_credentials
from txworker.scheduler import Link, Registration
from txworker.store.jobs import JobStore
from txworker.store.lease import BEAT_SECONDS, boot_ticks
from txworker.worker import Policy, Worker, World

CLOSING_SECONDS = 5.0
"""How long the disk may take to write what is left when the worker ends."""

DRAIN_SECONDS = 2.0
"""How long output is waited for when a job's process has exited but something it left behind holds the pipe."""

_log = Logger()


def assemble(config: Config, reactor: Any, environment: Mapping[str, str]) -> tuple[InOrder, Drain]:
    """
    Everything from the store to the scheduler's door, ready to be started in order; and how to drain it.

    What an earlier worker left unfinished is ended and written down as lost before this returns. environment is what
    jobs inherit.

    Raises:
        OSError: a directory cannot be made.
        Unusable: the state directory cannot be used.
    """
    jobs, serving = config.jobs, config.grpc_server
    trouble = _Trouble()
    store = JobStore(jobs.state_directory, jobs.durability == "machine", reactor, trouble.heard)
    processes = _Processes(jobs, reactor, environment, f"txworker-{store.lease.id}")
    shelf = Shelf(jobs.output_directory, processes.descriptors.moved_up)
    worker = _worker(jobs, processes, shelf, store, reactor)
    recover(worker, store, shelf, processes.end_stale, keep=jobs.leftovers == "keep")

    bridge = Bridge(reactor)
    control = ControlServicer(bridge, lambda: drain.begin())
    door = control_door(jobs.state_directory, control)
    server = _server(serving, WorkerServicer(worker, bridge, StreamSlots(serving.max_streams)), bridge, door)
    trouble.announce = server.announce
    scheduler = [_registration(config.scheduler, server, reactor)] if config.scheduler.addr else []

    def refuse() -> None:
        worker.refuse()
        server.announce_stopping()

    drain = Drain(reactor, worker, server.announce_stopping, scheduler, reactor.stop)
    within = jobs.stop_grace_seconds + DRAIN_SECONDS + 1.0
    ending = Stopping("jobs", lambda: _end_jobs(worker, reactor, within))
    stages: list[list[Service]] = [
        [Stopping("store", lambda: _close(store, reactor)), _heart(store)],
        [Stopping("processes", processes.close)],
        [server],
        [ending, *scheduler, _sweeper(jobs, reactor, store, shelf, worker)],
        [Stopping("refusal", refuse)],
    ]
    return InOrder(stages), drain


class _Trouble:
    """Passes on whether the store can be written, to health and to the log."""

    def __init__(self) -> None:
        self.announce: Callable[[bool], None] = lambda serving: None

    def heard(self, trouble: StoreBroken | None) -> None:
        if trouble is None:
            _log.info("The store can be written again.")
        else:
            _log.error("No new jobs until the store can be written again: {error}.", error=trouble)
        self.announce(trouble is None)


class _Processes:
    """The room of processes, put together; close() when no job is left."""

    def __init__(self, config: Jobs, reactor: Any, environment: Mapping[str, str], name: str) -> None:
        self.descriptors = DescriptorLimit()
        cores = Cores(config.pin_worker)
        self._keep = config.leftovers == "keep"
        self._census = Census(reactor)
        self._cgroups = _cgroups(name) if config.use_cgroups else None
        self._stop_adopting = _adopting(self._census)
        start, descendants = quickest_start(), self._census.descendants
        self._starts = Starts(start, PreparedStart(descendants.spare, descendants.forget))
        self._place = best_place(reactor, cores) if isinstance(start, NativeStart) else Here(cores)
        self.launcher = Launcher(
            Spawner(reactor, self._starts, self.descriptors, self._place, cores),
            reactor,
            self._census,
            self._cgroups,
            _places(config, environment),
            config.stop_grace_seconds,
            DRAIN_SECONDS,
        )

    def end_stale(self, job_ids: Iterable[str]) -> int:
        """End what is left in the cgroups that an earlier worker made for these jobs; how many processes that were."""
        if self._cgroups is None:
            return 0
        return sum(end_stale(self._cgroups.path / job_id) for job_id in job_ids)

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


def _worker(config: Jobs, processes: _Processes, shelf: Shelf, store: JobStore, reactor: Any) -> Worker:
    policy = Policy(config.max_running, config.stop_grace_seconds, config.limits, config.ceilings)
    world = World(time.time, boot_ticks, lambda: str(uuid.uuid4()), lambda call: reactor.callLater(0, call))
    return Worker(processes.launcher, shelf, store, policy, world)


def _sweeper(config: Jobs, reactor: Any, store: JobStore, shelf: Shelf, worker: Worker) -> Sweeper:
    wanted = Retention(config.keep_days, config.keep_jobs, config.keep_output_bytes)

    def in_thread(call: Callable[[], Any]) -> Deferred[Any]:
        return deferToThreadPool(reactor, reactor.getThreadPool(), call)

    return Sweeper(reactor, in_thread, store, shelf, worker.catalog.viewers, wanted, time.time)


def _heart(store: JobStore) -> TimerService:
    def beat() -> None:
        with suppress(OSError):  # a disk that refuses is told of by the store itself
            store.lease.beat()

    return TimerService(BEAT_SECONDS, beat)


def _close(store: JobStore, reactor: Any) -> Deferred[None]:
    """A disk that does not answer must not keep the worker from ending."""
    return store.close().addTimeout(CLOSING_SECONDS, reactor)


def _server(
    config: GrpcServer, servicer: WorkerServicer, bridge: Bridge, door: Callable[[Any], None]
) -> rpc.GrpcServer:
    credentials = None
    if config.use_tls and config.crt_file and config.key_file:
        files = CertificateFiles(config.crt_file, config.key_file, config.client_ca_file)

        def credentials() -> Any:
            return server_credentials(files)

    return rpc.GrpcServer(config.host, config.port, servicer, bridge, config.max_streams, credentials, door)


def _registration(config: Scheduler, server: rpc.GrpcServer, reactor: Any) -> Registration:
    link = Link(reactor, config.addr, root_certificates=_bytes(config.ca_file), use_tls=config.use_tls)
    return Registration(reactor, link, lambda: config.advertise_addr or server.address, random.random)


def _bytes(path: Path | None) -> bytes | None:
    return None if path is None else path.read_bytes()


def _end_jobs(worker: Worker, reactor: Any, within_seconds: float) -> Deferred[None]:
    """Fires when every job is done, or when even KILL did not end one (a process the kernel cannot end)."""

    def give_up(failure: Failure) -> None:
        failure.trap(DeferredTimeout)
        _log.error(
            "Jobs {job_ids} could not be ended, or their ends not be written; the worker goes without them.",
            job_ids=worker.running_ids(),
        )

    return (
        worker.stop_all().addTimeout(within_seconds, reactor).addErrback(give_up).addCallback(lambda _: worker.close())
    )
