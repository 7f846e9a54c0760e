"""Puts other behaviours into the handler of a method, as interceptors do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import grpc

One = Callable[[Any, Any], Any]
Many = Callable[[Any, Any], Iterator[Any]]


def with_behaviours(handler: Any, one: Callable[[One], One], many: Callable[[Many], Many]) -> Any:
    """
    The handler with one(behaviour) if the method has one answer, with many(behaviour) if it has many; unchanged if it
    calls back instead of answering.
    """
    if not handler.response_streaming:
        behaviour = handler.stream_unary or handler.unary_unary
        make = (
            grpc.stream_unary_rpc_method_handler if handler.request_streaming else grpc.unary_unary_rpc_method_handler
        )
        return make(one(behaviour), handler.request_deserializer, handler.response_serializer)
    behaviour = handler.stream_stream or handler.unary_stream
    if getattr(behaviour, "experimental_non_blocking", False):
        return handler
    make = grpc.stream_stream_rpc_method_handler if handler.request_streaming else grpc.unary_stream_rpc_method_handler
    return make(many(behaviour), handler.request_deserializer, handler.response_serializer)
