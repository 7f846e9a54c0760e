"""The interfaces to other programs: the gRPC server with the operator's socket, and the link to the scheduler."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred

from txworker.base.logs import Logger
from txworker.base.ratelimit import RateLimit
from txworker.config import Config
from txworker.config import GrpcServer as ServerConfig
from txworker.daemon.descriptors import WEB_CONNECTIONS, DescriptorLimit
from txworker.daemon.drain import Drain
from txworker.daemon.handover import Handover
from txworker.daemon.reload import RunningConfig
from txworker.daemon.scheduler_door import registration
from txworker.leftovers.usage import LiveUsageReader
from txworker.ports import NO_OBSERVER, Observer, Tracer
from txworker.process.identity import names_of
from txworker.rpc.bridge import Bridge
from txworker.rpc.control import ControlServicer, control_socket
from txworker.rpc.health import Health
from txworker.rpc.pems import CertificateFiles
from txworker.rpc.scheduler import Registration
from txworker.rpc.server import Connections, GrpcServer
from txworker.rpc.servicer import WorkerServicer
from txworker.rpc.tls import ServerCertificate
from txworker.worker.readiness import DRAINING, Readiness
from txworker.worker.worker import Worker

_SCHEDULER_LINES = (10, 60.0)
"""The most log lines of each kind about the scheduler, and the seconds in which they count."""

_log = Logger()


@dataclass(frozen=True)
class Doors:
    """
    The server, its certificate if it has TLS, and the registration if there is a scheduler, none of them started; and
    the drain, which uses them. rate_limits: of their log lines, to be closed last.
    """

    server: GrpcServer
    certificate: ServerCertificate | None
    registration: Registration | None
    drain: Drain
    rate_limits: tuple[RateLimit, RateLimit]


def make_doors(
    running: RunningConfig,
    reactor: Any,
    worker: Worker,
    bridge: Bridge,
    health: Health,
    readiness: Readiness,
    handover: Handover,
    reload: Callable[[bool], Deferred[Any]],
    descriptors: DescriptorLimit,
    identity: tuple[str, int],
    observer: Observer | None,
    tracer: Tracer | None,
) -> Doors:
    """
    The interfaces to a worker. health answers for it; handover, and reload(check_only), can be requested on the
    operator's socket.

    identity: the worker's name and instance, which the scheduler is told. observer: None: nothing is counted.
    tracer: None: nothing is traced.
    """
    config = running.config
    request_lines, scheduler_lines = RateLimit(reactor), RateLimit(reactor, *_SCHEDULER_LINES)
    # drain is named before it exists: it needs the registration, which needs the server, which opens this socket.
    control = ControlServicer(bridge, lambda: drain.begin(), handover.begin, reload)
    operator_socket = control_socket(config.jobs.state_directory, control)
    told = observer or NO_OBSERVER
    user = names_of(config.jobs.user)
    servicer = WorkerServicer(worker, bridge, LiveUsageReader(), user, request_lines.allows, told, tracer)
    certificate = _certificate(running)
    server = _server(config, servicer, bridge, health, certificate, descriptors, operator_socket, observer, tracer)
    scheduler: Registration | None = None
    if config.scheduler.all_addrs:
        address, allows = (lambda: server.address), scheduler_lines.allows
        scheduler = registration(
            config.scheduler, identity, address, reactor, lambda: drain.begin(), allows, told.scheduler_answered
        )

    def announce_draining() -> None:
        readiness.begin(DRAINING, "the worker is being drained and takes no new jobs")

    registrations = [scheduler] if scheduler else []
    drain = Drain(reactor, worker, announce_draining, registrations, reactor.stop, lambda: handover.stopping)
    return Doors(server, certificate, scheduler, drain, (request_lines, scheduler_lines))


def _server(
    config: Config,
    servicer: WorkerServicer,
    bridge: Bridge,
    health: Health,
    certificate: ServerCertificate | None,
    descriptors: DescriptorLimit,
    operator_socket: Callable[[Any], None],
    observer: Observer | None,
    tracer: Tracer | None,
) -> GrpcServer:
    return GrpcServer(
        config.grpc_server.host,
        config.grpc_server.port,
        servicer,
        bridge,
        health,
        config.grpc_server.max_streams,
        None if certificate is None else certificate.credentials,
        _connections(config.grpc_server, descriptors, beside=bool(config.web.host)),
        operator_socket,
        observer,
        tracer,
    )


def _certificate(running: RunningConfig) -> ServerCertificate | None:
    """None: without TLS."""
    config = running.config.grpc_server
    if not config.use_tls or not config.crt_file or not config.key_file:  # the configuration's checks require both
        return None
    return ServerCertificate(lambda: _certificate_files(running.config.grpc_server))


def _certificate_files(config: ServerConfig) -> CertificateFiles:
    if not config.crt_file or not config.key_file:
        raise ValueError("TLS without certificate or key")
    return CertificateFiles(config.crt_file, config.key_file, config.client_ca_file)


def _connections(config: ServerConfig, descriptors: DescriptorLimit, beside: bool) -> Connections:
    """beside: there is the HTTP server as well; its connections come off the clients' half of the descriptors."""
    most = max(1, descriptors.for_connections - (WEB_CONNECTIONS if beside else 0))
    if config.max_connections > most:
        _log.warn(
            "grpc_server.max_connections: {wanted} are more than the limit of open files allows beside jobs: {most}.",
            wanted=config.max_connections,
            most=most,
        )
    return Connections(min(config.max_connections or most, most), config.max_idle_seconds, descriptors.scarce)
