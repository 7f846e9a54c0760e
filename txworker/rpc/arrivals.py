"""
What gRPC is given as its pool: a call is given a thread when its message has come, and not before.

The half of a call so costs no thread. How many there may be, and for how long, is in underway.py.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextvars import Context, ContextVar
from typing import Any, TypeVar

import grpc

from txworker.base.logs import Logger
from txworker.rpc.incoming import KNOWN, Incoming
from txworker.rpc.threads import IS_ORDER, RpcThreads
from txworker.rpc.underway import Calls, Starts

T = TypeVar("T")

IS_STREAM: ContextVar[bool] = ContextVar("IS_STREAM", default=False)
"""Set in an RPC's context: its client sends many messages."""

LOOK_SECONDS = 0.1
"""Between two looks at calls whose message is on its way."""

IDLE_SECONDS = 0.5
"""Between two looks while there are none."""


class Arrivals(Executor):
    """Takes each call's message, then gives the call to the threads. `now` is a clock that cannot jump."""

    _log = Logger()

    def __init__(self, threads: RpcThreads, now: Callable[[], float], max_streams: int) -> None:
        self._threads = threads
        self._calls = Calls(threads.take, now)
        self._streams = Calls(threads.take, now, max_streams)
        self._starts = Starts(threads.take, now)
        if not KNOWN:
            text = "This grpcio ({version}) is built differently: a call whose message never comes holds a thread."
            self._log.warn(text, version=grpc.__version__)

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """gRPC's serving thread: never blocks, and never raises."""
        context = getattr(fn, "__self__", None)
        if isinstance(context, Context):
            call = Incoming.of(fn, args, context.get(IS_STREAM, False))
            if call is not None:
                calls = self._streams if call.streams else self._calls
                (self._starts if context.get(IS_ORDER, False) else calls).add(call)
                return call.future
        return self._threads.submit(fn, *args, **kwargs)

    def look(self) -> float:
        """
        End what has taken too long; when to look again, in seconds. Reactor thread.

        To end a call takes a lock of gRPC's, so that is done in a thread.
        """
        busy = [each for each in (self._calls, self._streams, self._starts) if each.busy]
        for each in busy:
            self._threads.submit(each.look)
        return LOOK_SECONDS if busy else IDLE_SECONDS
