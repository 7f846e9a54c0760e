"""
The standard health service (grpc.health.v1): whether the worker takes jobs, and under the name "live" whether it works.

It has no lock, and no thread sends for another: the reactor replaces the statuses, and each Watch reads them in its own
thread and sends what differs from what it sent last. So a watcher that reads nothing blocks only itself. The servicer
of grpcio-health-checking sends while it holds its lock and deadlocks when a client leaves meanwhile; only its messages
are used here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial

import grpc
from grpc_health.v1 import health_pb2 as pb
from grpc_health.v1 import health_pb2_grpc
from twisted.internet.defer import Deferred, succeed

from txworker.base.waiting import Waiters
from txworker.jobs.errors import TxWorkerError, WorkerStopping, shown
from txworker.rpc.bridge import Bridge, Caller
from txworker.rpc.wire.status import status_of

NAME = pb.DESCRIPTOR.services_by_name["Health"].full_name

LIVE = "live"
"""The name that is SERVING until the worker ends, also while it takes no jobs: to restart what hangs."""

_Response = pb.HealthCheckResponse


class Health(health_pb2_grpc.HealthServicer):
    """All these names and the worker as a whole ("") share one status, at first SERVING; LIVE has its own."""

    def __init__(self, bridge: Bridge, names: Iterable[str]) -> None:
        self._bridge = bridge
        self._names = ("", *names)
        self._changed = Waiters()
        self._statuses: Mapping[str, int] = {}
        self._over = False
        self.announce(serving=True)

    def announce(self, serving: bool) -> None:
        """Change the status. Reactor thread."""
        self._replace(_Response.SERVING if serving else _Response.NOT_SERVING)

    def end(self) -> None:
        """Every Watch sends the last status, then ends. Reactor thread."""
        self._over = True
        self._changed.wake()

    def Check(self, request: pb.HealthCheckRequest, context: grpc.ServicerContext) -> pb.HealthCheckResponse:
        """The present status; of LIVE only if the reactor turns. gRPC threads."""
        status = self._statuses.get(request.service)
        if status is None:
            context.abort(grpc.StatusCode.NOT_FOUND, f"service: {shown(request.service)} is not served by this worker")
        if request.service == LIVE:
            self._check_reactor(context)
        return _Response(status=status)

    def List(self, request: pb.HealthListRequest, context: grpc.ServicerContext) -> pb.HealthListResponse:
        """The present status of every name. gRPC threads."""
        statuses = self._statuses.items()
        return pb.HealthListResponse(statuses={name: _Response(status=status) for name, status in statuses})

    def Watch(self, request: pb.HealthCheckRequest, context: grpc.ServicerContext) -> Iterator[pb.HealthCheckResponse]:
        """The present status, then each change; a slow reader gets only the newest. gRPC threads."""
        try:
            for status in self._statuses_of(request.service, self._bridge.caller(context)):
                yield _Response(status=status)
        except TxWorkerError as error:
            context.abort_with_status(status_of(error))

    def _check_reactor(self, context: grpc.ServicerContext) -> None:
        """Returns when the reactor turns; if it never does, the call ends by its deadline."""
        try:
            self._bridge.caller(context).call(lambda: succeed(None))
        except TxWorkerError as error:
            context.abort_with_status(status_of(error))

    def _statuses_of(self, name: str, caller: Caller) -> Iterator[int]:
        sent = None
        while True:
            over, statuses = self._over, self._statuses  # in this order, because nothing changes after the end
            status = statuses.get(name, _Response.SERVICE_UNKNOWN)
            if status != sent:
                sent = status
                yield status
            if over:
                raise WorkerStopping
            caller.call(partial(self._other_than, statuses))

    def _other_than(self, statuses: Mapping[str, int]) -> Deferred[None]:
        return self._changed.until(lambda: self._over or self._statuses is not statuses)

    def _replace(self, status: int) -> None:
        statuses = {**dict.fromkeys(self._names, status), LIVE: _Response.SERVING}
        if statuses != self._statuses:
            self._statuses = statuses
            self._changed.wake()
