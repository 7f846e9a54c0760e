"""
How the worker is put together: the only file that knows every room.

Imported when the service starts, not before: twistd forks to become a daemon, and nothing of gRPC may exist then.
"""

from __future__ import annotations

import os
import random
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from twisted.internet import process
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.logger import Logger
from twisted.python.failure import Failure

from txworker.config import Config, GrpcServer, Jobs, Scheduler
from txworker.lifetime import InOrder, Stopping
from txworker.output.shelf import Shelf
from txworker.process.census import Census, adopt_orphans
from txworker.process.cgroup import Cgroups, own_cgroup
from txworker.process.child import Starts, quickest_start
from txworker.process.descriptors import DescriptorLimit
from txworker.process.identity import home_of, identity
from txworker.process.launcher import Launcher, Places
from txworker.process.prepared import Preparation, PreparedStart
from txworker.process.spawner import Spawner
from txworker.rpc import server as rpc
from txworker.rpc.bridge import Bridge
from txworker.rpc.servicer import WorkerServicer
from txworker.rpc.streams import StreamSlots
from txworker.rpc.tls import CertificateFiles, server_credentials
from txworker.scheduler import Link, Registration
from txworker.store.memory import MemoryStore
from txworker.worker import Policy, Worker

DRAIN_SECONDS = 2.0
"""How long output is waited for when a job's process has exited but something it left behind holds the pipe."""

_log = Logger()


def assemble(config: Config, reactor: Any, environment: Mapping[str, str]) -> InOrder:
    """
    Everything from the store to the scheduler's door, ready to be started in order.

    environment is what jobs inherit.

    Raises:
        OSError: the output directory cannot be made.
    """
    processes = _Processes(config.jobs, reactor, environment)
    worker = _worker(config.jobs, processes)
    bridge = Bridge(reactor)
    server = _server(
        config.grpc_server, WorkerServicer(worker, bridge, StreamSlots(config.grpc_server.max_streams)), bridge
    )
    jobs = Stopping("jobs", lambda: _end_jobs(worker, reactor, config.jobs.stop_grace_seconds + DRAIN_SECONDS + 1.0))

    def refuse() -> None:
        worker.refuse()
        server.announce_stopping()

    scheduler = [_registration(config.scheduler, server, reactor)] if config.scheduler.addr else []
    last = Stopping("processes", processes.close)
    return InOrder([[last], [server], [jobs, *scheduler], [Stopping("refusal", refuse)]])


class _Processes:
    """The room of processes, put together; close() when no job is left."""

    def __init__(self, config: Jobs, reactor: Any, environment: Mapping[str, str]) -> None:
        self.descriptors = DescriptorLimit()
        self._keep = config.leftovers == "keep"
        self._census = Census(reactor)
        self._cgroups = _cgroups() if config.use_cgroups else None
        self._prepared = PreparedStart(self._census.spare)
        self._stop_adopting = _adopting(self._census)
        starts = Starts(quickest_start(), self._prepared)
        self.launcher = Launcher(
            Spawner(reactor, starts, self.descriptors),
            reactor,
            self._census,
            self._cgroups,
            _places(config, environment),
            config.stop_grace_seconds,
            DRAIN_SECONDS,
        )

    def close(self) -> None:
        """Nothing of any job runs on, unless it is to be kept."""
        self._stop_adopting()
        if not self._keep:
            self._census.kill_everybody()
        self._prepared.close()
        if self._cgroups is not None:
            self._cgroups.close()


def _cgroups() -> Cgroups | None:
    try:
        return Cgroups(own_cgroup(), f"txworker-{os.getpid()}")
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


def _worker(config: Jobs, processes: _Processes) -> Worker:
    policy = Policy(config.max_running, config.stop_grace_seconds, config.limits, config.ceilings)
    shelf = Shelf(config.output_directory, processes.descriptors.moved_up)
    return Worker(processes.launcher, shelf, MemoryStore(), policy, time.time, lambda: str(uuid.uuid4()))


def _server(config: GrpcServer, servicer: WorkerServicer, bridge: Bridge) -> rpc.GrpcServer:
    credentials = None
    if config.use_tls and config.crt_file and config.key_file:
        files = CertificateFiles(config.crt_file, config.key_file, config.client_ca_file)

        def credentials() -> Any:
            return server_credentials(files)

    return rpc.GrpcServer(config.host, config.port, servicer, bridge, config.max_streams, credentials)


def _registration(config: Scheduler, server: rpc.GrpcServer, reactor: Any) -> Registration:
    link = Link(reactor, config.addr, root_certificates=_bytes(config.ca_file), use_tls=config.use_tls)
    return Registration(reactor, link, lambda: config.advertise_addr or server.address, random.random)


def _bytes(path: Path | None) -> bytes | None:
    return None if path is None else path.read_bytes()


def _end_jobs(worker: Worker, reactor: Any, within_seconds: float) -> Deferred[None]:
    """Fires when every job is done, or when even KILL did not end one (a process the kernel cannot end)."""

    def give_up(failure: Failure) -> None:
        failure.trap(DeferredTimeout)
        _log.error("Jobs {job_ids} could not be ended; the worker goes without them.", job_ids=worker.running_ids())

    return worker.stop_all().addTimeout(within_seconds, reactor).addErrback(give_up)
