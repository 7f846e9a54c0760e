"""The gRPC server as a service: bound when started; stopped by refusing, letting calls end, and cutting the rest."""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc
from twisted.application.service import Service
from twisted.internet.defer import Deferred

from txworker.base.logs import Logger
from txworker.pb import worker_bare_pb2, worker_bare_pb2_grpc, worker_pb2, worker_pb2_grpc
from txworker.rpc.admission import Admission, StreamSlots
from txworker.rpc.arrivals import Arrivals
from txworker.rpc.bridge import Bridge
from txworker.rpc.health import NAME as HEALTH_NAME
from txworker.rpc.health import Health
from txworker.rpc.ready import ReadyMessages
from txworker.rpc.requests import add_service
from txworker.rpc.threads import RpcThreads

NAMES = tuple(file.DESCRIPTOR.services_by_name["Worker"].full_name for file in (worker_pb2, worker_bare_pb2))
"""The service's two full names: existing programs use one, the written specification shows the other."""

UNARY_THREADS = 48
"""Threads beyond those that streams may hold."""

ORDER_THREADS = 40
"""Of these, at most so many are with orders, which may wait for a launch that hangs: stop and query find the others."""

FIRST_THREADS = 8
"""So many are there from the beginning to the end, whatever jobs do to the machine."""

CLOSING_SECONDS = 1.5
"""How long open calls may take to end once every job is done; then they are cut."""

PENDING_CALLS = 50_000
"""Calls that may wait for their turn, so that all jobs of a worker can be stopped at once."""

HANDSHAKE_SECONDS = 5.0
"""How long a client may take for TLS and the first frame of HTTP/2."""

_OPTIONS = (
    ("grpc.so_reuseport", 0),  # or a second worker binds the same port silently and takes half the calls
    ("grpc.keepalive_time_ms", 20_000),  # a client whose machine is gone holds its thread for half a minute at most:
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),  # without this one the others are ten times slower (measured)
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),  # clients may ping, too (by default: every 5 minutes)
    ("grpc.http2.bdp_probe", 0),  # or a call that waits for its turn takes in megabytes meanwhile, not 64 KiB
    ("grpc.server.max_pending_requests", PENDING_CALLS),  # by default gRPC cancels some of a flood, beginning at 1,000
    ("grpc.server.max_pending_requests_hard_limit", 2 * PENDING_CALLS),
)


@dataclass(frozen=True)
class Connections:
    """How many there may be, and how long one without a call; scarce(): descriptors are, viewers get none now."""

    most: int
    idle_seconds: float  # 0: for ever
    scarce: Callable[[], bool]

    def options(self) -> list[tuple[str, int]]:
        """The same in gRPC's words. No grpc.max_concurrent_streams: of five thousand calls at once some are refused."""
        found = [
            ("grpc.max_allowed_incoming_connections", self.most),
            ("grpc.server_handshake_timeout_ms", int(HANDSHAKE_SECONDS * 1000)),
        ]
        if self.idle_seconds:
            found.append(("grpc.max_connection_idle_ms", max(1, int(self.idle_seconds * 1000))))
        return found


class CannotListen(Exception):
    """The address cannot be bound; the sentence says why."""


class GrpcServer(Service):
    """
    Serves a Worker servicer under both of its names, with health and reflection beside it. Reactor thread.

    credentials() makes the server's credentials when it is started, or is None for plaintext. also_open(server) adds
    another door to it.
    """

    _log = Logger()

    def __init__(
        self,
        host: str,
        port: int,
        servicer: worker_pb2_grpc.WorkerServicer,
        bridge: Bridge,
        health: Health,
        max_streams: int,
        credentials: Callable[[], grpc.ServerCredentials] | None,
        connections: Connections,
        also_open: Callable[[grpc.Server], None] = lambda server: None,
    ) -> None:
        self.host = host
        self.port = port
        self._servicer = servicer
        self._bridge = bridge
        self._max_streams = max_streams
        self._credentials = credentials
        self._connections = connections
        self._also_open = also_open
        self._health = health
        self._server: grpc.Server | None = None
        self._next_look: Any = None

    @property
    def address(self) -> str:
        """host:port as it is served; the real port once started."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def startService(self) -> None:
        """
        Bind and serve.

        Raises:
            CannotListen: the address cannot be bound.
            OSError: a certificate cannot be read, or the machine has no threads for it.
        """
        _check_free(self.host, self.port, self.address)
        arrivals = Arrivals(self._first_threads(), self._bridge.reactor.seconds, self._max_streams)
        threads: Any = arrivals  # all that is needed of it is submit()
        slots = StreamSlots(self._max_streams, self._connections.scarce)
        options = (*_OPTIONS, *self._connections.options())
        server = grpc.server(threads, interceptors=[Admission(slots), ReadyMessages()], options=options)
        self._add_services(server)
        self.port = self._bind(server)
        self._also_open(server)
        server.start()
        self._server = server
        self._look(arrivals)
        super().startService()
        self._log.info("Serving on {address}{tls}.", address=self.address, tls=" with TLS" if self._credentials else "")

    def stopService(self) -> Deferred[None]:
        """Refuse new calls; fires when the open ones have ended or were cut, soon after CLOSING_SECONDS at most."""
        super().stopService()
        closed: Deferred[None] = Deferred()
        server, self._server = self._server, None
        if server is None:
            closed.callback(None)
            return closed
        if self._next_look is not None:
            self._next_look.cancel()
        self._health.end()
        reactor: Any = self._bridge.reactor
        reactor.callLater(CLOSING_SECONDS, self._bridge.close)

        def stop() -> None:  # it takes gRPC's locks, for which the reactor must not wait
            server.stop(CLOSING_SECONDS).wait(CLOSING_SECONDS + 1.0)
            reactor.callFromThread(closed.callback, None)

        threading.Thread(target=stop, name="txworker-rpc-stop", daemon=True).start()
        return closed.addTimeout(CLOSING_SECONDS + 2.0, reactor, self._given_up)

    def _given_up(self, _: object, seconds: float) -> None:
        self._log.error("gRPC has not ended within {seconds:g} s; the worker goes without it.", seconds=seconds)

    def _add_services(self, server: grpc.Server) -> None:
        add_service(worker_pb2_grpc.add_WorkerServicer_to_server, self._servicer, server)
        add_service(worker_bare_pb2_grpc.add_WorkerServicer_to_server, self._servicer, server)  # type: ignore[arg-type]  # the same methods
        add_service(health_pb2_grpc.add_HealthServicer_to_server, self._health, server)
        served = reflection.ReflectionServicer((*NAMES, HEALTH_NAME, reflection.SERVICE_NAME))
        add_service(reflection_pb2_grpc.add_ServerReflectionServicer_to_server, served, server)

    def _look(self, arrivals: Arrivals) -> None:
        self._next_look = self._bridge.reactor.callLater(arrivals.look(), self._look, arrivals)

    def _first_threads(self) -> RpcThreads:
        try:
            return RpcThreads(self._max_streams + UNARY_THREADS, ORDER_THREADS, FIRST_THREADS)
        except RuntimeError as error:
            raise OSError(errno.EAGAIN, f"no threads for calls: {error}") from error

    def _bind(self, server: grpc.Server) -> int:
        try:
            if self._credentials is None:
                return server.add_insecure_port(self.address)
            return server.add_secure_port(self.address, self._credentials())
        except RuntimeError as error:
            raise CannotListen(f"{self.address}: {error}") from error


def _check_free(host: str, port: int, address: str) -> None:
    """gRPC says only that binding failed; the system says why."""
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
            probe.listen(1)
    except OSError as error:
        raise CannotListen(f"{address}: {error.strerror or error}") from error
