"""Messages that come from the servicer serialized already."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc


class ReadyMessages(grpc.ServerInterceptor):
    """Sends what StreamJob yields as it is: wire/blocks.py has serialized it."""

    def intercept_service(self, continuation: Callable[[Any], Any], handler_call_details: Any) -> Any:
        """gRPC's serving thread: the handler of one call. Must not block."""
        handler = continuation(handler_call_details)
        if handler is None or not handler_call_details.method.endswith("Worker/StreamJob"):
            return handler
        return grpc.unary_stream_rpc_method_handler(handler.unary_stream, handler.request_deserializer)
