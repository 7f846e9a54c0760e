"""
The gRPC side of the scheduler's door: three calls and one notice, as Deferreds.

No thread of ours: gRPC's futures and its connectivity watch call back in gRPC's threads, and cross to the reactor here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from txworker.base.reactor import FromThreads
from txworker.base.waiting import Waiters
from txworker.pb import scheduler_pb2 as pb
from txworker.pb import scheduler_pb2_grpc

_OPTIONS = (
    ("grpc.enable_retries", 0),  # how often to try is decided in registration.py alone
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.enable_http_proxy", 0),  # $http_proxy is for the web: a scheduler is dialled itself
    ("grpc.client_idle_timeout_ms", 2**31 - 1),  # an idle connection must not look like a lost one
    # No keepalive pings: a Go server answers those without a call with GOAWAY (too_many_pings). probe() does it.
)

_SETTLED = (grpc.ChannelConnectivity.READY, grpc.ChannelConnectivity.TRANSIENT_FAILURE)
"""Connected, or known not to be: then a call says at once what is wrong."""

_GONE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)


class CallFailed(Exception):
    """A call to the scheduler failed; the sentence says how. `code` is None when it was answered, but with nonsense."""

    def __init__(self, sentence: str, code: grpc.StatusCode | None = None) -> None:
        super().__init__(sentence)
        self.code = code


class Link:
    """A connection to the scheduler at `target`, kept open from open() to close(). FromThreads thread."""

    def __init__(
        self, reactor: FromThreads, target: str, *, root_certificates: bytes | None = None, use_tls: bool = False
    ) -> None:
        self._reactor = reactor
        self._target = target
        self._root_certificates = root_certificates
        self._use_tls = use_tls
        self._channel: grpc.Channel | None = None
        self._state = grpc.ChannelConnectivity.IDLE
        self._changes = Waiters()
        self._watcher = _ignore

    def open(self, lost: Callable[[], None]) -> None:
        """Begin to connect; lost() is called in the reactor thread whenever an established connection is gone."""
        if self._use_tls:
            credentials = grpc.ssl_channel_credentials(self._root_certificates)
            self._channel = grpc.secure_channel(self._target, credentials, _OPTIONS)
        else:
            self._channel = grpc.insecure_channel(self._target, _OPTIONS)

        def changed(connectivity: grpc.ChannelConnectivity) -> None:
            self._reactor.callFromThread(self._changed, connectivity, lost)

        self._watcher = changed
        self._channel.subscribe(changed)

    def register(self, address: str, timeout_seconds: float) -> Deferred[str]:
        """
        The id under which the scheduler knows this worker now.

        An OK without an id is a failure; `success` is not looked at, the existing scheduler leaves it false.
        Fails with CallFailed. Cancelling cancels the call.
        """
        return Deferred.fromCoroutine(self._register(address, timeout_seconds))

    async def _register(self, address: str, timeout_seconds: float) -> str:
        # First the connection must have been seen: one that goes before it was could not be missed afterwards.
        self._connect()
        await self._changes.until(lambda: self._state in _SETTLED)
        stub = scheduler_pb2_grpc.SchedulerStub(self._open_channel())
        request = pb.RegisterReq(address=address)
        return _worker_id(await self._deferred(stub.RegisterWorker.future(request, timeout=timeout_seconds)))

    def deregister(self, worker_id: str, timeout_seconds: float) -> Deferred[None]:
        """Say goodbye for that id. Fails with CallFailed. Cancelling cancels the call."""
        stub = scheduler_pb2_grpc.SchedulerStub(self._open_channel())
        request = pb.DeregisterReq(workerID=worker_id)
        answer = self._deferred(stub.DeregisterWorker.future(request, timeout=timeout_seconds))
        return answer.addCallback(lambda _: None)

    def probe(self, timeout_seconds: float) -> Deferred[bool]:
        """Whether the scheduler answers: any answer counts, that it has no health service, too."""
        stub = health_pb2_grpc.HealthStub(self._open_channel())
        answer = self._deferred(stub.Check.future(health_pb2.HealthCheckRequest(), timeout=timeout_seconds))

        def there(failure: Failure) -> bool:
            error = failure.value
            if not isinstance(error, CallFailed):
                failure.raiseException()
            return error.code not in _GONE

        return answer.addCallbacks(lambda _: True, there)

    def close(self) -> None:
        """Give the connection up; calls under way fail."""
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.unsubscribe(self._watcher)  # first: gRPC's watching thread does not expect a closed channel
            channel.close()

    def _open_channel(self) -> grpc.Channel:
        if self._channel is None:
            raise CallFailed("the link is closed")
        return self._channel

    def _connect(self) -> None:
        """gRPC leaves an idle channel idle until it is asked."""
        if self._channel is not None and self._state is grpc.ChannelConnectivity.IDLE:
            self._channel.subscribe(_ignore, try_to_connect=True)
            self._channel.unsubscribe(_ignore)

    def _changed(self, connectivity: grpc.ChannelConnectivity, lost: Callable[[], None]) -> None:
        was, self._state = self._state, connectivity
        self._changes.wake()
        if self._changes:  # somebody still waits to be connected: a connection may be lost before it was seen
            self._connect()
        if was is grpc.ChannelConnectivity.READY and connectivity is not was and self._channel is not None:
            lost()

    def _deferred(self, future: Any) -> Deferred[Any]:
        answer: Deferred[Any] = Deferred(lambda _: future.cancel())

        def tell() -> None:
            if answer.called:
                return
            error = None if future.cancelled() else future.exception()
            if future.cancelled():
                answer.errback(CallFailed("cancelled", grpc.StatusCode.CANCELLED))
            elif error is not None:
                answer.errback(CallFailed(f"{error.details()} ({error.code().name})", error.code()))
            else:
                answer.callback(future.result())

        future.add_done_callback(lambda _: self._reactor.callFromThread(tell))
        return answer


def _ignore(connectivity: grpc.ChannelConnectivity) -> None:
    """Only there so that subscribing can ask for a connection again."""


def _worker_id(answer: pb.RegisterRes) -> str:
    if not answer.workerID:
        raise CallFailed("the scheduler answered without a worker id")
    return answer.workerID
