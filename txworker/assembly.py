"""
How the worker is put together: the only file that knows every room.

Imported when the service starts, not before: twistd forks to become a daemon, and nothing of gRPC may exist then.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.logger import Logger
from twisted.python.failure import Failure

from txworker.config import Config, GrpcServer, Scheduler
from txworker.lifetime import InOrder, Stopping
from txworker.output.shelf import Shelf
from txworker.process.launcher import Launcher
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
    worker = _worker(config, reactor, environment)
    bridge = Bridge(reactor)
    server = _server(
        config.grpc_server, WorkerServicer(worker, bridge, StreamSlots(config.grpc_server.max_streams)), bridge
    )
    jobs = Stopping("jobs", lambda: _end_jobs(worker, reactor, config.jobs.stop_grace_seconds + DRAIN_SECONDS + 1.0))

    def refuse() -> None:
        worker.refuse()
        server.announce_stopping()

    scheduler = [_registration(config.scheduler, server, reactor)] if config.scheduler.addr else []
    return InOrder([[server], [jobs, *scheduler], [Stopping("refusal", refuse)]])


def _worker(config: Config, reactor: Any, environment: Mapping[str, str]) -> Worker:
    launcher = Launcher(
        Spawner(reactor),
        reactor,
        environment,
        str(config.jobs.directory),
        config.jobs.stop_grace_seconds,
        DRAIN_SECONDS,
    )
    policy = Policy(config.jobs.max_running, config.jobs.stop_grace_seconds)
    shelf = Shelf(config.jobs.output_directory)
    return Worker(launcher, shelf, MemoryStore(), policy, time.time, lambda: str(uuid.uuid4()))


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
