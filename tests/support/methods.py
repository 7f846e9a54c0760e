"""The descriptors of every method that a worker serves."""

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
    """The method's path on the wire: /service/method."""
    return f"/{method.containing_service.full_name}/{method.name}"


def begin(channel: grpc.Channel, method: MethodDescriptor, request: bytes, **options: Any) -> Any:
    """Begin a call with these bytes; an iterator of its answers, also of a method with one answer."""
    requests: Any = iter([request]) if method.client_streaming else request
    make: Any = channel.stream_stream if method.client_streaming else channel.unary_stream
    return make(path_of(method))(requests, **options)
