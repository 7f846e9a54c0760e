"""The gRPC server as a service. When it stops, it refuses new calls, lets the open ones end, and then cuts them."""

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

from txworker.base.addresses import join_address
from txworker.base.logs import Logger
from txworker.pb import worker_bare_pb2, worker_bare_pb2_grpc, worker_pb2, worker_pb2_grpc
from txworker.ports import NO_OBSERVER, Observer, Tracer
from txworker.rpc.access import Access
from txworker.rpc.admission import REFLECTION_CALLS, Admission, ReflectionSlots, StreamSlots
from txworker.rpc.bridge import Bridge
from txworker.rpc.call_executor import CallExecutor
from txworker.rpc.health import NAME as HEALTH_NAME
from txworker.rpc.health import Health
from txworker.rpc.measuring import Measuring
from txworker.rpc.preserialized import PreserializedMessages
from txworker.rpc.requests import add_service
from txworker.rpc.threads import RpcThreads
from txworker.rpc.tracing import Tracing

NAMES = tuple(file.DESCRIPTOR.services_by_name["Worker"].full_name for file in (worker_pb2, worker_bare_pb2))
"""The service's two full names: existing programs use one, the specification shows the other."""

UNARY_THREADS = 48
"""In addition to the threads that streams may hold."""

START_THREADS = 40
"""How many of UNARY_THREADS are for StartJob, which waits when a launch hangs. StopJob and QueryJob have the others."""

MIN_THREADS = 8
"""Created at the start and kept, so that calls are served even when jobs use up the machine's threads."""

CLOSING_SECONDS = 1.5
"""How long open calls may take to end once every job is done. Then they are cut."""

MAX_PENDING_CALLS = 50_000
"""Calls that gRPC may hold until its serving thread takes them up. threads.py limits how many wait for a thread."""

HANDSHAKE_SECONDS = 5.0
"""How long a client may take for the TLS handshake and the first HTTP/2 frame."""

_OPTIONS = (
    ("grpc.so_reuseport", 0),  # otherwise a second worker could bind the same port and get half of the calls
    ("grpc.keepalive_time_ms", 20_000),  # a client on a machine that is gone holds its thread for half a minute at most
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),  # without this one the others are ten times slower (measured)
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),  # how often clients may ping (default: every 5 minutes)
    ("grpc.http2.bdp_probe", 0),  # with it a call that waits for a thread receives megabytes, not 64 KiB
    ("grpc.server.max_pending_requests", MAX_PENDING_CALLS),  # by default gRPC cancels calls beyond 1,000
    ("grpc.server.max_pending_requests_hard_limit", 2 * MAX_PENDING_CALLS),
)


@dataclass(frozen=True)
class Connections:
    """
    Limits of connections.

    max_connections: at a time.
    idle_seconds: how long a connection without a call stays open; 0: without limit.
    descriptors_scarce(): no further streams may be opened now.
    """

    max_connections: int
    idle_seconds: float
    descriptors_scarce: Callable[[], bool]

    def options(self) -> list[tuple[str, int]]:
        """As options of gRPC. grpc.max_concurrent_streams is not set: it refuses some of 5,000 calls at once."""
        options = [
            ("grpc.max_allowed_incoming_connections", self.max_connections),
            ("grpc.server_handshake_timeout_ms", int(HANDSHAKE_SECONDS * 1000)),
        ]
        if self.idle_seconds:
            options.append(("grpc.max_connection_idle_ms", max(1, int(self.idle_seconds * 1000))))
        return options


@dataclass(frozen=True)
class ServerLoad:
    """
    streams: how many are open, of at most grpc_server.max_streams.
    threads: how many serve calls or are ready to.
    calls_waiting: how many have come and have no thread yet.
    """

    streams: int
    threads: int
    calls_waiting: int


class CannotListen(Exception):
    """The address cannot be bound. The sentence says why."""


class GrpcServer(Service):
    """
    Serves a Worker servicer under both of its names, with health and reflection. Reactor thread.

    credentials() makes the server's credentials at the start; None: plaintext.
    also_open(server) adds a further service and its address, before the server starts.
    observer: is told of every call; None: of none, which saves each call some microseconds. tracer: the same.
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
        observer: Observer | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        self.host = host
        self.port = port
        self._servicer = servicer
        self._bridge = bridge
        self._max_streams = max_streams
        self._credentials = credentials
        self._connections = connections
        self._also_open = also_open
        self._observer = observer
        self._tracer = tracer
        self._slots = StreamSlots(max_streams, connections.descriptors_scarce)
        self._threads: RpcThreads | None = None
        self._health = health
        self._server: grpc.Server | None = None
        self._check_timer: Any = None

    @property
    def address(self) -> str:
        """host:port. Once started it has the real port, if 0 was given."""
        return join_address(self.host, self.port)

    @property
    def load(self) -> ServerLoad:
        """How busy the server is. Any thread."""
        threads = self._threads
        return ServerLoad(self._slots.open, threads.count if threads else 0, threads.waiting if threads else 0)

    def startService(self) -> None:
        """
        Bind and serve.

        Raises:
            CannotListen: the address cannot be bound.
            OSError: a certificate cannot be read, or no thread can be created.
        """
        _check_free(self.host, self.port, self.address)
        self._threads = self._create_threads()
        seconds, observer = self._bridge.reactor.seconds, self._observer or NO_OBSERVER
        call_executor = CallExecutor(self._threads, seconds, self._max_streams, observer)
        executor: Any = call_executor  # gRPC's stubs want a ThreadPoolExecutor, gRPC itself only submit()
        admission = Admission(self._slots, ReflectionSlots(self._connections.descriptors_scarce))
        interceptors = [Access(), admission, PreserializedMessages()]
        if self._observer is not None:
            interceptors.insert(0, Measuring(self._observer))
        if self._tracer is not None:
            interceptors.insert(0, Tracing(self._tracer))
        options = (*_OPTIONS, *self._connections.options())
        server = grpc.server(executor, interceptors=interceptors, options=options)
        self._add_services(server)
        self.port = self._bind(server)
        self._also_open(server)
        server.start()
        self._server = server
        self._check_pending(call_executor)
        super().startService()
        self._log.info("Serving on {address}{tls}.", address=self.address, tls=" with TLS" if self._credentials else "")

    def stopService(self) -> Deferred[None]:
        """Refuse new calls. Fires when the open ones have ended or were cut, in CLOSING_SECONDS + 2 at most."""
        super().stopService()
        closed: Deferred[None] = Deferred()
        server, self._server = self._server, None
        if server is None:
            closed.callback(None)
            return closed
        if self._check_timer is not None:
            self._check_timer.cancel()
        self._health.end()
        reactor: Any = self._bridge.reactor
        reactor.callLater(CLOSING_SECONDS, self._bridge.close)

        def stop() -> None:
            """In a thread, because it waits for gRPC's locks."""
            server.stop(CLOSING_SECONDS).wait(CLOSING_SECONDS + 1.0)
            reactor.callFromThread(closed.callback, None)

        threading.Thread(target=stop, name="txworker-rpc-stop", daemon=True).start()
        return closed.addTimeout(CLOSING_SECONDS + 2.0, reactor, self._timed_out)

    def _timed_out(self, _: object, seconds: float) -> None:
        self._log.error(
            "gRPC has not ended within {seconds:g} s; the worker ends without waiting for it.", seconds=seconds
        )

    def _add_services(self, server: grpc.Server) -> None:
        add_service(worker_pb2_grpc.add_WorkerServicer_to_server, self._servicer, server)
        add_service(worker_bare_pb2_grpc.add_WorkerServicer_to_server, self._servicer, server)  # type: ignore[arg-type]  # the same methods
        add_service(health_pb2_grpc.add_HealthServicer_to_server, self._health, server)
        served = reflection.ReflectionServicer((*NAMES, HEALTH_NAME, reflection.SERVICE_NAME))
        add_service(reflection_pb2_grpc.add_ServerReflectionServicer_to_server, served, server)

    def _check_pending(self, executor: CallExecutor) -> None:
        self._check_timer = self._bridge.reactor.callLater(executor.check(), self._check_pending, executor)

    def _create_threads(self) -> RpcThreads:
        try:
            most = self._max_streams + REFLECTION_CALLS + UNARY_THREADS
            return RpcThreads(most, START_THREADS, MIN_THREADS)
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
    """Binds the address once, because the system says why that fails, and gRPC does not."""
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
            probe.listen(1)
    except OSError as error:
        raise CannotListen(f"{address}: {error.strerror or error}") from error
    except UnicodeError as error:  # the codec idna: a part of a name has 1 to 63 characters
        raise CannotListen(f"{address}: no name of a machine") from error
