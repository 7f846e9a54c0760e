"""
Requests that cannot be read are their callers' mistakes: INVALID_ARGUMENT, with a sentence, whatever the method.

grpcio answers INTERNAL where a deserializer raises, logs a traceback, and never frees what the call held (19 KB). So
those that are registered here do not raise: what cannot be read becomes a value, and the method's own behaviour is
never called with one. It costs a good request two calls in Python, and keeps no copy of its bytes.
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
from txworker.wire.status import status_of
from txworker.wire.unreadable import unreadable

S = TypeVar("S")

Behaviour = Callable[[Any, grpc.ServicerContext], Any]


def add_service(add: Callable[[S, Any], None], servicer: S, server: grpc.Server) -> None:
    """Have a server serve that; `add` is the generated add_…Servicer_to_server."""
    add(servicer, _Methods(server))


class _Methods:
    """What generated code takes for the server: passes its methods on, so made that no request raises."""

    def __init__(self, server: grpc.Server) -> None:
        self._server = server

    def add_generic_rpc_handlers(self, handlers: object) -> None:
        """Not passed on: the same methods come once more, registered by name, and only so does gRPC find them."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """All methods of a service."""
        methods = Default().FindServiceByName(service).methods_by_name
        ours = {name: never_raising(handler, methods[name].input_type) for name, handler in handlers.items()}
        self._server.add_registered_method_handlers(service, ours)


def never_raising(handler: Any, message: Descriptor) -> Any:
    """A handler (grpc.RpcMethodHandler) like that one, which takes that message, and answers whatever else comes."""
    read = _reader(handler.request_deserializer, message)
    if handler.request_streaming:
        if handler.response_streaming:
            make, behaviour = grpc.stream_stream_rpc_method_handler, _many_to_many(handler.stream_stream)
        else:
            make, behaviour = grpc.stream_unary_rpc_method_handler, _many_to_one(handler.stream_unary)
    elif handler.response_streaming:
        make, behaviour = grpc.unary_stream_rpc_method_handler, _of_one(handler.unary_stream)
    else:
        make, behaviour = grpc.unary_unary_rpc_method_handler, _of_one(handler.unary_unary)
    return make(behaviour, read, handler.response_serializer)


@dataclass(frozen=True)
class _Unreadable:
    """Bytes in the place of the request that they should have been."""

    message: Descriptor
    request: bytes

    def error(self) -> InvalidRequest:
        """What is wrong with them."""
        return unreadable(self.message, self.request)


def _reader(parse: Callable[[bytes], Any], message: Descriptor) -> Callable[[bytes], Any]:
    def read(request: bytes) -> Any:
        """gRPC's serving thread. Must neither block nor raise."""
        try:
            return parse(request)
        except DecodeError:
            return _Unreadable(message, request)

    return read


def _of_one(behaviour: Behaviour) -> Behaviour:
    """Of one request, whether one answer or a stream comes of it."""

    def answer(request: Any, context: grpc.ServicerContext) -> Any:
        if isinstance(request, _Unreadable):
            context.abort_with_status(status_of(request.error()))
        return behaviour(request, context)

    return answer


def _many_to_one(behaviour: Behaviour) -> Behaviour:
    def answer(requests: Iterator[Any], context: grpc.ServicerContext) -> Any:
        try:
            return behaviour(_readable(requests), context)
        except TxWorkerError as error:  # unless the behaviour has answered it itself
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
    Each request, until one cannot be read.

    Raises:
        InvalidRequest: that one.
        CallerGone: the client left instead of sending another. gRPC may also tell it as the end of the requests.
    """
    try:
        for request in requests:
            if isinstance(request, _Unreadable):
                raise request.error()
            yield request
    except grpc.RpcError as error:
        raise CallerGone from error
