"""Puts another behaviour into the handler of a method (grpc.RpcMethodHandler), as interceptors do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import grpc

One = Callable[[Any, Any], Any]
Many = Callable[[Any, Any], Iterator[Any]]


def behaviour_of(handler: Any) -> Any:
    """The function that answers the method's calls."""
    return handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream


def with_behaviour(handler: Any, behaviour: Callable[[Any, Any], Any], deserializer: Any = None) -> Any:
    """A handler of the same kind with that behaviour, and with that deserializer instead of its own if one is given."""
    if handler.request_streaming:
        many, one = grpc.stream_stream_rpc_method_handler, grpc.stream_unary_rpc_method_handler
    else:
        many, one = grpc.unary_stream_rpc_method_handler, grpc.unary_unary_rpc_method_handler
    make = many if handler.response_streaming else one
    return make(behaviour, deserializer or handler.request_deserializer, handler.response_serializer)


def with_behaviours(handler: Any, one: Callable[[One], One], many: Callable[[Many], Many]) -> Any:
    """
    The handler with one(behaviour) if the method has one answer, with many(behaviour) if it has many; unchanged if it
    calls back instead of answering, and so holds no thread.
    """
    behaviour = behaviour_of(handler)
    if not handler.response_streaming:
        return with_behaviour(handler, one(behaviour))
    if getattr(behaviour, "experimental_non_blocking", False):
        return handler
    return with_behaviour(handler, many(behaviour))
