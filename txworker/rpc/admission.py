"""How many calls may hold a thread: streams have a limit, StartJob has threads of its own. Access rules: access.py."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc

from txworker.jobs.errors import OutOfResources
from txworker.rpc.call_executor import IS_STREAM, METHOD
from txworker.rpc.handlers import with_behaviours
from txworker.rpc.threads import IS_START
from txworker.rpc.wire.status import status_of


class StreamSlots:
    """
    How many streams may be open at once. Each holds a thread, and other calls need threads, too. Any thread.

    While descriptors_scarce() there is no slot: a stream may have a descriptor open, and jobs need those.
    """

    def __init__(self, max_streams: int, descriptors_scarce: Callable[[], bool]) -> None:
        self._max_streams = max_streams
        self._descriptors_scarce = descriptors_scarce
        self._open = 0
        self._lock = threading.Lock()

    @property
    def open(self) -> int:
        """How many are taken."""
        return self._open

    def take(self) -> None:
        """
        Take a slot.

        Raises:
            OutOfResources: all are taken, or descriptors are scarce.
        """
        if self._descriptors_scarce():
            text = "the worker has few open files left, which its jobs need: no further stream now"
            raise OutOfResources(text, "DESCRIPTORS_SCARCE")
        with self._lock:
            if self._open >= self._max_streams:
                text = f"grpc_server.max_streams: {self._max_streams} streams are open already"
                raise OutOfResources(text, "MAX_STREAMS")
            self._open += 1

    def give_back(self) -> None:
        """Free a slot."""
        with self._lock:
            self._open -= 1


class Admission(grpc.ServerInterceptor):
    """
    Takes a slot for every stream, of every service; notes in the call's context what call_executor.py needs to know.
    """

    def __init__(self, slots: StreamSlots) -> None:
        self._slots = slots

    def intercept_service(self, continuation: Callable[[Any], Any], handler_call_details: Any) -> Any:
        """The handler of one call. gRPC's serving thread; must not block."""
        handler = continuation(handler_call_details)
        if handler is None:
            return None
        METHOD.set(handler_call_details.method)
        if handler.request_streaming:
            IS_STREAM.set(True)
        elif not handler.response_streaming:
            if handler_call_details.method.endswith("Worker/StartJob"):
                IS_START.set(True)
            return handler
        return with_behaviours(handler, self._with_slot_for_one, self._with_slot)

    def _with_slot_for_one(self, behaviour: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        def answer_in_slot(requests: Any, context: grpc.ServicerContext) -> Any:
            self._take(context)
            if context.add_callback(self._slots.give_back):
                return behaviour(requests, context)
            self._slots.give_back()
            return None

        return answer_in_slot

    def _take(self, context: grpc.ServicerContext) -> None:
        try:
            self._slots.take()
        except OutOfResources as error:
            context.abort_with_status(status_of(error))

    def _with_slot(self, stream: Callable[[Any, Any], Iterator[Any]]) -> Callable[[Any, Any], Iterator[Any]]:
        def stream_in_slot(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            self._take(context)
            if context.add_callback(self._slots.give_back):
                yield from stream(request, context)
            else:
                self._slots.give_back()

        return stream_in_slot
