"""Every method of every service that a worker serves, as its descriptor has it."""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from txworker.pb import control_pb2, worker_bare_pb2, worker_pb2

FILES = (worker_pb2, worker_bare_pb2, control_pb2, health_pb2, reflection_pb2)

METHODS: list[MethodDescriptor] = [
    method for file in FILES for service in file.DESCRIPTOR.services_by_name.values() for method in service.methods
]


def path_of(method: MethodDescriptor) -> str:
    """As it is called on the wire."""
    return f"/{method.containing_service.full_name}/{method.name}"


def begin(channel: grpc.Channel, method: MethodDescriptor, request: bytes, **options: Any) -> Any:
    """A call with these bytes, begun: its answers are iterated, whatever their number."""
    requests: Any = iter([request]) if method.client_streaming else request
    make: Any = channel.stream_stream if method.client_streaming else channel.unary_stream
    return make(path_of(method))(requests, **options)
