"""
The executor that gRPC hands each call to: it gives a call a thread only when the call's message has arrived.

So a half-sent call holds no thread. pending_calls.py and pending_starts.py limit how many calls wait for their message,
and for how long.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextvars import Context, ContextVar
from typing import Any, TypeVar

import grpc

from txworker.base.logs import Logger
from txworker.ports import NO_OBSERVER, Observer
from txworker.rpc.incoming_call import SUPPORTED, IncomingCall
from txworker.rpc.pending_calls import PendingCalls
from txworker.rpc.pending_starts import PendingStarts
from txworker.rpc.threads import IS_START, RpcThreads

T = TypeVar("T")

IS_STREAM: ContextVar[bool] = ContextVar("IS_STREAM", default=False)
"""Set in an RPC's context: its client sends many messages."""

METHOD: ContextVar[str] = ContextVar("METHOD", default="")
"""Set in an RPC's context: the method's full name."""

CHECK_SECONDS = 0.1
"""The time between two calls of check() while calls wait for their message."""

IDLE_SECONDS = 0.5
"""The same while no call waits."""


class CallExecutor(Executor):
    """
    Receives each call's message, then gives the call to the threads. `now` is a monotonic clock.

    observer: is told of calls that are ended before they have a thread.
    """

    _log = Logger()

    def __init__(
        self, threads: RpcThreads, now: Callable[[], float], max_streams: int, observer: Observer = NO_OBSERVER
    ) -> None:
        self._threads = threads
        self._observer = observer
        self._calls = PendingCalls(threads.take, now)
        self._streams = PendingCalls(threads.take, now, max_streams)
        self._starts = PendingStarts(threads.take, now)
        if not SUPPORTED:
            text = "This grpcio ({version}) is built differently: a call holds a thread if its message never comes."
            self._log.warn(text, version=grpc.__version__)

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """gRPC's serving thread: never blocks, and never raises."""
        context = getattr(fn, "__self__", None)
        if isinstance(context, Context):
            call = IncomingCall.from_submit(
                fn, args, context.get(METHOD, ""), context.get(IS_STREAM, False), self._refused
            )
            if call is not None:
                calls = self._streams if call.streams else self._calls
                (self._starts if context.get(IS_START, False) else calls).add(call)
                return call.future
        return self._threads.submit(fn, *args, **kwargs)

    def _refused(self, method: str, code: str, seconds: float) -> None:
        self._observer.call_answered(method, code, seconds, seconds)

    def check(self) -> float:
        """
        End the calls that wait too long for their message; the seconds until the next check. Reactor thread.

        Ending a call takes a lock of gRPC's, so a thread does it.
        """
        busy = [pending for pending in (self._calls, self._streams, self._starts) if pending.busy]
        for pending in busy:
            self._threads.submit(pending.check)
        return CHECK_SECONDS if busy else IDLE_SECONDS
