"""Responses that the servicer yields as bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc


class PreserializedMessages(grpc.ServerInterceptor):
    """Sends the messages of StreamJob unchanged: rpc/wire/blocks.py has serialized them."""

    def intercept_service(self, continuation: Callable[[Any], Any], handler_call_details: Any) -> Any:
        """The handler of one call. gRPC's serving thread; must not block."""
        handler = continuation(handler_call_details)
        if handler is None or not handler_call_details.method.endswith("Worker/StreamJob"):
            return handler
        return grpc.unary_stream_rpc_method_handler(handler.unary_stream, handler.request_deserializer)
