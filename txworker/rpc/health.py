"""
The standard health service (grpc.health.v1): what is served, asked for once or watched.

There is no lock here, and no thread ever sends for another: the statuses are a value that the reactor replaces, each
Watch reads it in a thread of its own and sends what differs from what it sent last. So a watcher that reads nothing
holds up itself alone. grpcio-health-checking's servicer sends under its lock and stands still for good when a client
leaves meanwhile; only its messages are used.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial

import grpc
from grpc_health.v1 import health_pb2 as pb
from grpc_health.v1 import health_pb2_grpc
from twisted.internet.defer import Deferred

from txworker.base.waiting import Waiters
from txworker.jobs.errors import TxWorkerError, WorkerStopping, shown
from txworker.rpc.bridge import Bridge, Caller
from txworker.wire.status import status_of

NAME = pb.DESCRIPTOR.services_by_name["Health"].full_name

_Response = pb.HealthCheckResponse


class Health(health_pb2_grpc.HealthServicer):
    """All of these names, and the worker as a whole (""), share one status: SERVING, until something else is said."""

    def __init__(self, bridge: Bridge, names: Iterable[str]) -> None:
        self._bridge = bridge
        self._names = ("", *names)
        self._changed = Waiters()
        self._statuses: Mapping[str, int] = {}
        self._stopping = self._over = False
        self.announce(serving=True)

    def announce(self, serving: bool) -> None:
        """That from now on, until something else is announced. Reactor thread."""
        if not self._stopping:
            self._replace(_Response.SERVING if serving else _Response.NOT_SERVING)

    def announce_stopping(self) -> None:
        """NOT_SERVING from now on, for good. Reactor thread."""
        self.announce(serving=False)
        self._stopping = True

    def end(self) -> None:
        """Whoever watches is told what is still untold, and that this is the end. Reactor thread."""
        self._over = True
        self._changed.wake()

    def Check(self, request: pb.HealthCheckRequest, context: grpc.ServicerContext) -> pb.HealthCheckResponse:
        """What is so now. gRPC threads."""
        status = self._statuses.get(request.service)
        if status is None:
            context.abort(grpc.StatusCode.NOT_FOUND, f"service: {shown(request.service)} is not served by this worker")
        return _Response(status=status)

    def List(self, request: pb.HealthListRequest, context: grpc.ServicerContext) -> pb.HealthListResponse:
        """The same of every name. gRPC threads."""
        statuses = self._statuses.items()
        return pb.HealthListResponse(statuses={name: _Response(status=status) for name, status in statuses})

    def Watch(self, request: pb.HealthCheckRequest, context: grpc.ServicerContext) -> Iterator[pb.HealthCheckResponse]:
        """What is so now, then each change; who reads slowly is told the newest. gRPC threads."""
        try:
            for status in self._each(request.service, self._bridge.caller(context)):
                yield _Response(status=status)
        except TxWorkerError as error:
            context.abort_with_status(status_of(error))

    def _each(self, name: str, caller: Caller) -> Iterator[int]:
        told = None
        while True:
            over, statuses = self._over, self._statuses  # in this order: after the end nothing changes
            status = statuses.get(name, _Response.SERVICE_UNKNOWN)
            if status != told:
                told = status
                yield status
            if over:
                raise WorkerStopping
            caller.call(partial(self._other_than, statuses))

    def _other_than(self, statuses: Mapping[str, int]) -> Deferred[None]:
        return self._changed.until(lambda: self._over or self._statuses is not statuses)

    def _replace(self, status: int) -> None:
        statuses = dict.fromkeys(self._names, status)
        if statuses != self._statuses:
            self._statuses = statuses
            self._changed.wake()
