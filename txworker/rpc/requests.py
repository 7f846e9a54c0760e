"""
Requests that cannot be parsed are answered with INVALID_ARGUMENT and a sentence, whatever the method.

When a deserializer raises, grpcio answers INTERNAL, logs a traceback, and never frees what the call held (19 KB). So
the deserializers that are registered here do not raise: they return a value for bytes that cannot be parsed, and the
method is not called with it. That costs a good request two calls in Python, and keeps no copy of its bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pool import Default
from google.protobuf.message import DecodeError

from txworker.jobs.errors import CallerGone, InvalidRequest, TxWorkerError
from txworker.rpc.handlers import behaviour_of, with_behaviour
from txworker.rpc.wire.status import status_of
from txworker.rpc.wire.unreadable import unreadable

S = TypeVar("S")

Behaviour = Callable[[Any, grpc.ServicerContext], Any]


def add_service(add: Callable[[S, Any], None], servicer: S, server: grpc.Server) -> None:
    """Add a servicer to a server. `add` is the generated add_…Servicer_to_server."""
    add(servicer, _Methods(server))


class _Methods:
    """Stands in for the server in generated code; registers the methods with deserializers that do not raise."""

    def __init__(self, server: grpc.Server) -> None:
        self._server = server

    def add_generic_rpc_handlers(self, handlers: object) -> None:
        """Does nothing: generated code also registers the same methods by name, and gRPC finds them there first."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Register the methods of a service."""
        methods = Default().FindServiceByName(service).methods_by_name
        ours = {name: never_raising(handler, methods[name].input_type) for name, handler in handlers.items()}
        self._server.add_registered_method_handlers(service, ours)


def never_raising(handler: Any, message: Descriptor) -> Any:
    """The handler (grpc.RpcMethodHandler) with a deserializer that does not raise. message: what it parses."""
    if not handler.request_streaming:
        checked = _of_one
    else:
        checked = _many_to_many if handler.response_streaming else _many_to_one
    return with_behaviour(handler, checked(behaviour_of(handler)), _reader(handler.request_deserializer, message))


@dataclass(frozen=True)
class Unreadable:
    """In place of a request: bytes that cannot be parsed as one."""

    message: Descriptor
    request: bytes

    def error(self) -> InvalidRequest:
        """What is wrong with the bytes."""
        return unreadable(self.message, self.request)


def _reader(parse: Callable[[bytes], Any], message: Descriptor) -> Callable[[bytes], Any]:
    def read(request: bytes) -> Any:
        """gRPC's serving thread. Must neither block nor raise."""
        try:
            return parse(request)
        except DecodeError:
            return Unreadable(message, request)

    return read


def _of_one(behaviour: Behaviour) -> Behaviour:
    """For one request, with one response or many."""

    def answer(request: Any, context: grpc.ServicerContext) -> Any:
        if isinstance(request, Unreadable):
            context.abort_with_status(status_of(request.error()))
        return behaviour(request, context)

    return answer


def _many_to_one(behaviour: Behaviour) -> Behaviour:
    def answer(requests: Iterator[Any], context: grpc.ServicerContext) -> Any:
        try:
            return behaviour(_readable(requests), context)
        except TxWorkerError as error:  # the behaviour may also answer it itself
            context.abort_with_status(status_of(error))

    return answer


def _many_to_many(behaviour: Behaviour) -> Behaviour:
    def answers(requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        try:
            yield from behaviour(_readable(requests), context)
        except TxWorkerError as error:
            context.abort_with_status(status_of(error))

    return answers


def _readable(requests: Iterator[Any]) -> Iterator[Any]:
    """
    The requests.

    Raises:
        InvalidRequest: the next one cannot be parsed.
        CallerGone: the client left instead of sending the next one. gRPC may also end the requests instead.
    """
    try:
        for request in requests:
            if isinstance(request, Unreadable):
                raise request.error()
            yield request
    except grpc.RpcError as error:
        raise CallerGone from error
