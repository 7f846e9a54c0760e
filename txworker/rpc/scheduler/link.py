"""
The scheduler's RPCs over gRPC, as Deferreds.

Starts no thread: gRPC calls back in its own threads, and this module passes each callback to the reactor thread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from twisted.internet.defer import Deferred, TimeoutError
from twisted.python.failure import Failure

from txworker.base.reactor import ClockWithThreads
from txworker.base.waiting import Waiters
from txworker.pb import scheduler_pb2 as pb
from txworker.pb import scheduler_pb2_grpc

_OPTIONS = (
    ("grpc.enable_retries", 0),  # registration.py alone decides when to retry
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.enable_http_proxy", 0),  # connect directly: $http_proxy is for web clients
    ("grpc.client_idle_timeout_ms", 2**31 - 1),  # an idle connection must not look like a lost one
    # No keepalive pings: a Go server answers pings without a call with GOAWAY (too_many_pings). probe() replaces them.
)

_SETTLED = (grpc.ChannelConnectivity.READY, grpc.ChannelConnectivity.TRANSIENT_FAILURE)
"""Connected, or failed to connect: in both states a call fails at once if the scheduler cannot be reached."""

_UNREACHABLE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)


class CallFailed(Exception):
    """A call to the scheduler failed. `code` is None if the status was OK but the answer cannot be used."""

    def __init__(self, sentence: str, code: grpc.StatusCode | None = None) -> None:
        super().__init__(sentence)
        self.code = code


class Link:
    """
    A connection to the scheduler at `target`, kept open from open() to close(). Reactor thread.

    metadata: sent with each registration, beside its message; a scheduler that does not know it ignores it.
    """

    def __init__(
        self,
        reactor: ClockWithThreads,
        target: str,
        *,
        root_certificates: bytes | None = None,
        use_tls: bool = False,
        metadata: Sequence[tuple[str, str]] = (),
    ) -> None:
        self.target = target
        self._reactor = reactor
        self._metadata = tuple(metadata)
        self._root_certificates = root_certificates
        self._use_tls = use_tls
        self._channel: grpc.Channel | None = None
        self._state = grpc.ChannelConnectivity.IDLE
        self._state_changed = Waiters()
        self._watcher = _ignore

    def open(self, lost: Callable[[], None]) -> None:
        """Begin to connect. lost() is called in the reactor thread whenever an established connection is lost."""
        if self._use_tls:
            credentials = grpc.ssl_channel_credentials(self._root_certificates)
            self._channel = grpc.secure_channel(self.target, credentials, _OPTIONS)
        else:
            self._channel = grpc.insecure_channel(self.target, _OPTIONS)

        def tell_reactor(connectivity: grpc.ChannelConnectivity) -> None:
            self._reactor.callFromThread(self._changed, connectivity, lost)

        self._watcher = tell_reactor
        self._channel.subscribe(tell_reactor)

    def register(self, address: str, timeout_seconds: float) -> Deferred[str]:
        """
        Register this worker's address; fires with the worker id that the scheduler assigns.

        An OK without an id is a failure. The field `success` is ignored, because the existing scheduler leaves it
        false. Fails with CallFailed, also when there is no connection by then. Cancelling cancels the call.
        """
        return Deferred.fromCoroutine(self._register(address, timeout_seconds))

    async def _register(self, address: str, timeout_seconds: float) -> str:
        # Wait for a known state first: the loss of a connection that was never seen as READY would not be noticed.
        self._connect()
        timeout_seconds -= await self._settled(timeout_seconds)
        stub = scheduler_pb2_grpc.SchedulerStub(self._open_channel())
        request = pb.RegisterReq(address=address)
        call = stub.RegisterWorker.future(request, timeout=timeout_seconds, metadata=self._metadata)
        return _worker_id(await self._deferred(call))

    async def _settled(self, within_seconds: float) -> float:
        """Wait for a known state; the seconds that it took. Resolving a name alone may take longer than permitted."""
        begun = self._reactor.seconds()
        settled = self._state_changed.until(lambda: self._state in _SETTLED)
        settled.addTimeout(within_seconds, self._reactor)  # type: ignore[arg-type]  # it uses callLater only
        try:
            await settled
        except TimeoutError as error:
            raise CallFailed(f"no connection within {within_seconds:g} s") from error
        return self._reactor.seconds() - begun

    def deregister(self, worker_id: str, timeout_seconds: float) -> Deferred[None]:
        """Deregister the worker id. Fails with CallFailed. Cancelling cancels the call."""
        stub = scheduler_pb2_grpc.SchedulerStub(self._open_channel())
        request = pb.DeregisterReq(workerID=worker_id)
        answer = self._deferred(stub.DeregisterWorker.future(request, timeout=timeout_seconds))
        return answer.addCallback(lambda _: None)

    def probe(self, timeout_seconds: float) -> Deferred[bool]:
        """Whether the scheduler answers a health check; any answer counts, UNIMPLEMENTED as well."""
        stub = health_pb2_grpc.HealthStub(self._open_channel())
        answer = self._deferred(stub.Check.future(health_pb2.HealthCheckRequest(), timeout=timeout_seconds))

        def was_answered(failure: Failure) -> bool:
            error = failure.value
            if not isinstance(error, CallFailed):
                failure.raiseException()
            return error.code not in _UNREACHABLE

        return answer.addCallbacks(lambda _: True, was_answered)

    def close(self) -> None:
        """Close the connection; calls under way fail."""
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.unsubscribe(self._watcher)  # first: gRPC's polling thread fails on a closed channel
            channel.close()

    def _open_channel(self) -> grpc.Channel:
        if self._channel is None:
            raise CallFailed("the link is closed")
        return self._channel

    def _connect(self) -> None:
        """Ask gRPC to connect, because an idle channel stays idle otherwise."""
        if self._channel is not None and self._state is grpc.ChannelConnectivity.IDLE:
            self._channel.subscribe(_ignore, try_to_connect=True)
            self._channel.unsubscribe(_ignore)

    def _changed(self, connectivity: grpc.ChannelConnectivity, lost: Callable[[], None]) -> None:
        was, self._state = self._state, connectivity
        self._state_changed.wake()
        if self._state_changed:  # a call still waits; the connection may have been lost before READY was seen
            self._connect()
        if was is grpc.ChannelConnectivity.READY and connectivity is not was and self._channel is not None:
            lost()

    def _deferred(self, future: Any) -> Deferred[Any]:
        answer: Deferred[Any] = Deferred(lambda _: future.cancel())
        future.add_done_callback(lambda _: self._reactor.callFromThread(_fire, answer, future))
        return answer


def _ignore(connectivity: grpc.ChannelConnectivity) -> None:
    """A subscriber that does nothing; subscribing it asks gRPC to connect."""


def _fire(answer: Deferred[Any], future: Any) -> None:
    """Reactor thread. The caller may have cancelled meanwhile."""
    if answer.called:
        return
    error = None if future.cancelled() else future.exception()
    if future.cancelled():
        answer.errback(CallFailed("cancelled", grpc.StatusCode.CANCELLED))
    elif error is not None:
        answer.errback(CallFailed(f"{error.details()} ({error.code().name})", error.code()))
    else:
        answer.callback(future.result())


def _worker_id(answer: pb.RegisterRes) -> str:
    if not answer.workerID:
        raise CallFailed("the scheduler answered without a worker id")
    return answer.workerID
