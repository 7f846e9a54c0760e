"""Tells an observer of every call: its method, its status code, and how long it waited and took."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import grpc

from txworker.ports import Observer
from txworker.rpc.handlers import with_behaviours


class Measuring(grpc.ServerInterceptor):
    """
    Must be the first interceptor, so that it sees what the others refuse. A call that is ended before it has a thread
    is told by call_executor.py instead. now() counts seconds.
    """

    def __init__(self, observer: Observer, now: Callable[[], float] = time.perf_counter) -> None:
        self._observer = observer
        self._now = now

    def intercept_service(self, continuation: Callable[[Any], Any], handler_call_details: Any) -> Any:
        """The handler of one call. gRPC's serving thread; must not block."""
        handler = continuation(handler_call_details)
        if handler is None:  # the method's name is the client's own
            return None
        call = _Call(self._observer, self._now, handler_call_details.method.rpartition("/")[2])
        return with_behaviours(handler, call.answering, call.streaming)


class _Call:
    """One call, from the moment when it came."""

    __slots__ = ("_came", "_method", "_now", "_observer")

    def __init__(self, observer: Observer, now: Callable[[], float], method: str) -> None:
        self._observer = observer
        self._now = now
        self._method = method
        self._came = now()

    def answering(self, behaviour: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        """The behaviour of a method with one answer."""
        return partial(self._answer, behaviour)

    def streaming(self, behaviour: Callable[[Any, Any], Iterator[Any]]) -> Callable[[Any, Any], Iterator[Any]]:
        """The behaviour of a method with many answers, which gRPC may drop before its end when the client leaves."""
        return partial(self._stream, behaviour)

    def _answer(self, behaviour: Callable[[Any, Any], Any], request: Any, context: Any) -> Any:
        waited = self._now() - self._came
        try:
            result = behaviour(request, context)
        except BaseException:  # abort() raises it
            self._answered(context.code() or grpc.StatusCode.UNKNOWN, waited)
            raise
        self._answered(context.code() or _unless_left(context), waited)
        return result

    def _stream(self, behaviour: Callable[[Any, Any], Iterator[Any]], request: Any, context: Any) -> Iterator[Any]:
        waited = self._now() - self._came
        code: grpc.StatusCode | None = None

        def closed() -> None:
            """gRPC's serving thread, once, however the stream ends."""
            self._observer.stream_closed(self._method)
            self._answered(context.code() or code or _left(context), waited)

        self._observer.stream_opened(self._method)
        if not context.add_callback(closed):
            closed()
            return
        try:
            yield from behaviour(request, context)
        except GeneratorExit:  # gRPC asks for no further answer: the client has left
            raise
        except BaseException:
            code = grpc.StatusCode.UNKNOWN
            raise
        code = grpc.StatusCode.OK

    def _answered(self, code: grpc.StatusCode, waited: float) -> None:
        self._observer.call_answered(self._method, code.name, waited, self._now() - self._came)


def _unless_left(context: Any) -> grpc.StatusCode:
    return grpc.StatusCode.OK if context.is_active() else _left(context)


def _left(context: Any) -> grpc.StatusCode:
    """The code of a call that ends before it is answered."""
    remaining = context.time_remaining()
    return grpc.StatusCode.CANCELLED if remaining is None or remaining > 0 else grpc.StatusCode.DEADLINE_EXCEEDED
