"""How many calls may hold a thread: streams have a limit, StartJob has threads of its own. Access rules: access.py."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import grpc
from grpc_reflection.v1alpha import reflection

from txworker.base.quantities import counted
from txworker.jobs.errors import OutOfResources
from txworker.rpc.call_executor import IS_STREAM, METHOD
from txworker.rpc.handlers import with_behaviours
from txworker.rpc.threads import IS_START
from txworker.rpc.wire.status import status_of

REFLECTION = f"/{reflection.SERVICE_NAME}/"
"""The beginning of the names of reflection's methods."""

REFLECTION_CALLS = 8
"""
How many calls of reflection may be open at once. Each takes milliseconds of a client such as grpcurl, but lasts until
the client ends it. They have slots of their own, so that those that stay open take none from viewers of output.
"""


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
                raise self._full()
            self._open += 1

    def give_back(self) -> None:
        """Free a slot."""
        with self._lock:
            self._open -= 1

    def _full(self) -> OutOfResources:
        text = f"grpc_server.max_streams: {counted(self._max_streams, 'stream is', 'streams are')} open already"
        return OutOfResources(text, "MAX_STREAMS")


class ReflectionSlots(StreamSlots):
    """REFLECTION_CALLS slots for the calls of reflection."""

    def __init__(self, descriptors_scarce: Callable[[], bool]) -> None:
        super().__init__(REFLECTION_CALLS, descriptors_scarce)

    def _full(self) -> OutOfResources:
        text = f"reflection: {REFLECTION_CALLS} calls are open already"
        return OutOfResources(text, "REFLECTION_CALLS")


class Admission(grpc.ServerInterceptor):
    """
    Takes a slot for every stream, of every service; notes in the call's context what call_executor.py needs to know.

    reflection_slots: for the streams of reflection; slots: for all others.
    """

    def __init__(self, slots: StreamSlots, reflection_slots: ReflectionSlots) -> None:
        self._slots = slots
        self._reflection_slots = reflection_slots

    def intercept_service(self, continuation: Callable[[Any], Any], handler_call_details: Any) -> Any:
        """The handler of one call. gRPC's serving thread; must not block."""
        handler = continuation(handler_call_details)
        if handler is None:
            return None
        method = handler_call_details.method
        METHOD.set(method)
        if handler.request_streaming:
            IS_STREAM.set(True)
        elif not handler.response_streaming:
            if method.endswith("Worker/StartJob"):
                IS_START.set(True)
            return handler
        slots = self._reflection_slots if method.startswith(REFLECTION) else self._slots
        return with_behaviours(handler, partial(_with_slot_for_one, slots), partial(_with_slot, slots))


def _with_slot_for_one(slots: StreamSlots, behaviour: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def answer_in_slot(requests: Any, context: grpc.ServicerContext) -> Any:
        _take(slots, context)
        if context.add_callback(slots.give_back):
            return behaviour(requests, context)
        slots.give_back()
        return None

    return answer_in_slot


def _with_slot(slots: StreamSlots, stream: Callable[[Any, Any], Iterator[Any]]) -> Callable[[Any, Any], Iterator[Any]]:
    def stream_in_slot(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        _take(slots, context)
        if context.add_callback(slots.give_back):
            yield from stream(request, context)
        else:
            slots.give_back()

    return stream_in_slot


def _take(slots: StreamSlots, context: grpc.ServicerContext) -> None:
    try:
        slots.take()
    except OutOfResources as error:
        context.abort_with_status(status_of(error))
