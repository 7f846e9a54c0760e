"""A span for every call, with the status that the client gets: of a refusal, too, which the call's code hides in it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import grpc

from txworker.ports import CallSpan, Tracer
from txworker.rpc.handlers import with_behaviours
from txworker.rpc.wire.status import reason_of

_NOT_TRACED = ("/grpc.",)
"""Health checks and reflection: probes come all the time, and say nothing of jobs."""


class Tracing(grpc.ServerInterceptor):
    """Must stand before the interceptors of which it is to see the refusals. now_ns(): nanoseconds since the epoch."""

    def __init__(self, tracer: Tracer, now_ns: Callable[[], int] = time.time_ns) -> None:
        self._tracer = tracer
        self._now_ns = now_ns

    def intercept_service(self, continuation: Callable[[Any], Any], handler_call_details: Any) -> Any:
        """The handler of one call. gRPC's serving thread; must not block."""
        handler, method = continuation(handler_call_details), handler_call_details.method
        if handler is None or method.startswith(_NOT_TRACED):
            return handler
        metadata, came_ns = handler_call_details.invocation_metadata, self._now_ns()

        def begin_span(context: Any) -> CallSpan:
            return self._tracer.call(method, metadata, context.peer(), came_ns)

        return with_behaviours(
            handler,
            lambda behaviour: partial(_answer, behaviour, begin_span),
            lambda behaviour: partial(_stream, behaviour, begin_span),
        )


def _answer(
    behaviour: Callable[[Any, Any], Any], begin_span: Callable[[Any], CallSpan], request: Any, context: Any
) -> Any:
    span = begin_span(context)
    code = grpc.StatusCode.UNKNOWN
    try:
        with span.current():
            result = behaviour(request, context)
        code = grpc.StatusCode.OK if context.is_active() else grpc.StatusCode.CANCELLED
        return result
    finally:
        _end(span, context, code)


def _stream(
    behaviour: Callable[[Any, Any], Iterator[Any]], begin_span: Callable[[Any], CallSpan], request: Any, context: Any
) -> Iterator[Any]:
    """gRPC drops the iterator when the client leaves, and calls back in either case."""
    span = begin_span(context)
    over = False

    def end_span() -> None:
        _end(span, context, grpc.StatusCode.OK if over else grpc.StatusCode.CANCELLED)

    if not context.add_callback(end_span):
        end_span()
        return
    yield from behaviour(request, context)
    over = True


def _end(span: CallSpan, context: Any, code: grpc.StatusCode) -> None:
    """code: of a call for which the method has set none."""
    given = context.code() or code
    details = context.details() or ""
    reason = "" if given is grpc.StatusCode.OK else reason_of(context.trailing_metadata() or ())
    span.ended(given.name, details.decode(errors="replace") if isinstance(details, bytes) else details, reason)
