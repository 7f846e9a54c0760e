"""Which calls may hold a thread, and how many at a time: streams have a ceiling, orders have lanes of their own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc

from txworker.jobs.errors import OutOfResources
from txworker.rpc.arrivals import IS_STREAM
from txworker.rpc.threads import IS_ORDER
from txworker.wire.status import status_of


class StreamSlots:
    """
    How many streams may be open at once: each holds a thread, and other calls need theirs. Any thread.

    None is given while scarce(): each may have a descriptor, and jobs need theirs.
    """

    def __init__(self, most: int, scarce: Callable[[], bool]) -> None:
        self._most = most
        self._scarce = scarce
        self._open = 0
        self._lock = threading.Lock()

    def take(self) -> None:
        """
        One more stream.

        Raises:
            OutOfResources: the ceiling is reached, or descriptors are scarce.
        """
        if self._scarce():
            text = "the worker has few open files left, which its jobs need: no further stream now"
            raise OutOfResources(text, "DESCRIPTORS_SCARCE")
        with self._lock:
            if self._open >= self._most:
                raise OutOfResources(f"grpc_server.max_streams: {self._most} streams are open already", "MAX_STREAMS")
            self._open += 1

    def give_back(self) -> None:
        """One stream is over."""
        with self._lock:
            self._open -= 1


class Admission(grpc.ServerInterceptor):
    """
    Every stream takes a slot, whose service it ever is (reflection's, too); StartJob is an order (threads.py), which
    may have to wait for a launch that hangs.
    """

    def __init__(self, slots: StreamSlots) -> None:
        self._slots = slots

    def intercept_service(self, continuation: Callable[[Any], Any], handler_call_details: Any) -> Any:
        """gRPC's serving thread: the handler of one call. Must not block."""
        handler = continuation(handler_call_details)
        if handler is None:
            return None
        if handler.request_streaming:
            IS_STREAM.set(True)
        if not handler.response_streaming:
            if handler_call_details.method.endswith("Worker/StartJob"):
                IS_ORDER.set(True)
            return handler
        stream = handler.stream_stream or handler.unary_stream
        if getattr(stream, "experimental_non_blocking", False):  # health's Watch holds no thread
            return handler
        kind = (
            grpc.stream_stream_rpc_method_handler if handler.request_streaming else grpc.unary_stream_rpc_method_handler
        )
        return kind(self._within_ceiling(stream), handler.request_deserializer, handler.response_serializer)

    def _within_ceiling(self, stream: Callable[[Any, Any], Iterator[Any]]) -> Callable[[Any, Any], Iterator[Any]]:
        def limited(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            try:
                self._slots.take()
            except OutOfResources as error:
                context.abort_with_status(status_of(error))
            if context.add_callback(self._slots.give_back):
                yield from stream(request, context)
            else:
                self._slots.give_back()

        return limited
