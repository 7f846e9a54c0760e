"""The interfaces to other programs: the gRPC server with the operator's socket, and the link to the scheduler."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred

from txworker.base.logs import Logger
from txworker.base.ratelimit import RateLimit
from txworker.config import GrpcServer as ServerConfig
from txworker.daemon.descriptors import DescriptorLimit
from txworker.daemon.drain import Drain
from txworker.daemon.handover import Handover
from txworker.daemon.reload import RunningConfig
from txworker.daemon.scheduler_door import registration
from txworker.leftovers.usage import LiveUsageReader
from txworker.rpc.bridge import Bridge
from txworker.rpc.control import ControlServicer, control_socket
from txworker.rpc.health import Health
from txworker.rpc.pems import CertificateFiles
from txworker.rpc.server import Connections, GrpcServer
from txworker.rpc.servicer import WorkerServicer
from txworker.rpc.tls import server_credentials
from txworker.worker.worker import Worker

_SCHEDULER_LINES = (10, 60.0)
"""The most log lines of each kind about the scheduler, in so many seconds."""

_log = Logger()


@dataclass(frozen=True)
class Doors:
    """
    The server, and the scheduler's registration if there is a scheduler, both not started; and the drain, which uses
    them. rate_limits: of their log lines, to be closed last.
    """

    server: GrpcServer
    scheduler: list[Service]
    drain: Drain
    rate_limits: tuple[RateLimit, RateLimit]


def make_doors(
    running: RunningConfig,
    reactor: Any,
    worker: Worker,
    bridge: Bridge,
    health: Health,
    handover: Handover,
    reload: Callable[[bool], Deferred[Any]],
    descriptors: DescriptorLimit,
    identity: tuple[str, int],
) -> Doors:
    """
    The interfaces to a worker. health answers for it; handover, and reload(check_only), can be requested on the
    operator's socket.

    identity: the worker's name and instance, which the scheduler is told.
    """
    config = running.config
    request_lines, scheduler_lines = RateLimit(reactor), RateLimit(reactor, *_SCHEDULER_LINES)
    # drain is named before it exists: it needs the registration, which needs the server, which opens this socket.
    control = ControlServicer(bridge, lambda: drain.begin(), handover.begin, reload)
    operator_socket = control_socket(config.jobs.state_directory, control)
    servicer = WorkerServicer(worker, bridge, LiveUsageReader(), request_lines.allows)
    server = _grpc_server(running, servicer, bridge, health, descriptors, operator_socket)
    scheduler: list[Service] = []
    if config.scheduler.all_addrs:
        scheduler = [
            registration(
                config.scheduler,
                identity,
                lambda: server.address,
                reactor,
                lambda: drain.begin(),
                scheduler_lines.allows,
            )
        ]
    drain = Drain(reactor, worker, health.announce_stopping, scheduler, reactor.stop)
    return Doors(server, scheduler, drain, (request_lines, scheduler_lines))


def _grpc_server(
    running: RunningConfig,
    servicer: WorkerServicer,
    bridge: Bridge,
    health: Health,
    descriptors: DescriptorLimit,
    operator_socket: Callable[[Any], None],
) -> GrpcServer:
    """The server as configured, not started. operator_socket(server) binds the operator's socket when it starts."""
    config = running.config.grpc_server
    return GrpcServer(
        config.host,
        config.port,
        servicer,
        bridge,
        health,
        config.max_streams,
        _credentials(running),
        _connections(config, descriptors),
        operator_socket,
    )


def _credentials(running: RunningConfig) -> Callable[[], Any] | None:
    """None: without TLS."""
    config = running.config.grpc_server
    if not config.use_tls or not config.crt_file or not config.key_file:  # the configuration's checks require both
        return None
    return lambda: server_credentials(lambda: _certificate_files(running.config.grpc_server))


def _certificate_files(config: ServerConfig) -> CertificateFiles:
    if not config.crt_file or not config.key_file:
        raise ValueError("TLS without certificate or key")
    return CertificateFiles(config.crt_file, config.key_file, config.client_ca_file)


def _connections(config: ServerConfig, descriptors: DescriptorLimit) -> Connections:
    most = descriptors.for_connections
    if config.max_connections > most:
        _log.warn(
            "grpc_server.max_connections: {wanted} are more than the limit of open files allows beside jobs: {most}.",
            wanted=config.max_connections,
            most=most,
        )
    return Connections(min(config.max_connections or most, most), config.max_idle_seconds, descriptors.scarce)
