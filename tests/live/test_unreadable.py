"""Requests that cannot be parsed: refused by every method of every service, and nothing of them is kept."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from tests.live.test_bad_requests import refused
from tests.support.daemon import LIMIT, Daemon
from tests.support.methods import METHODS, begin, path_of
from txworker.pb import worker_pb2 as pb

NO_MESSAGES = [
    b"\xff",
    b"\x0a\x05a",
    b"\x0a\xff\xff\xff\xff\x0f",
    b"\x1b" * 200,
    b"\x0c",
    bytes(range(256)),
]


def test_every_service(daemon: Daemon) -> None:
    """No service is served that these tests do not know; the operator's is not shown to everybody."""
    stub = reflection_pb2_grpc.ServerReflectionStub(daemon.channel)
    (answer,) = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
    shown = {service.name for service in answer.list_services_response.service}
    assert shown | {"txworker.Control"} == {method.containing_service.full_name for method in METHODS}


@pytest.mark.parametrize("method", METHODS, ids=path_of)
def test_no_message(daemon: Daemon, method: MethodDescriptor) -> None:
    """What is no message is INVALID_ARGUMENT, says so, and is no matter for the log."""
    for request in NO_MESSAGES:
        code, reason, sentence = refused(lambda: list(begin(daemon.channel, method, request, timeout=LIMIT)))  # noqa: B023
        assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT"), request
        assert method.input_type.full_name in sentence
    assert "Traceback" not in daemon.log()


@pytest.mark.parametrize("method", METHODS, ids=path_of)
def test_not_utf8(daemon: Daemon, method: MethodDescriptor) -> None:
    """A string that is not UTF-8 is INVALID_ARGUMENT, and its field is named."""
    for field in method.input_type.fields:
        if field.type == field.TYPE_STRING:
            request = bytes([*_tag(field.number), 2, 0xC3, 0x28])
            code, _, sentence = refused(lambda: list(begin(daemon.channel, method, request, timeout=LIMIT)))  # noqa: B023
            assert code is grpc.StatusCode.INVALID_ARGUMENT
            assert sentence == f"{field.name}: b'\\xc3(' is not UTF-8"


def test_no_message_at_all(daemon: Daemon) -> None:
    """A client that ends its messages before the one that a method needs is told the method's name."""
    for method in METHODS:
        if not method.client_streaming and method.containing_service.full_name != "txworker.Control":
            calling: Any = daemon.channel.stream_unary(path_of(method))
            with pytest.raises(grpc.RpcError) as caught:
                calling(iter(()), timeout=LIMIT)
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
            assert caught.value.details() == f'"{path_of(method)}" requires exactly one request message.'


def _tag(number: int) -> list[int]:
    key = number << 3 | 2
    return [key] if key < 128 else [key & 127 | 128, key >> 7]


def test_nothing_is_kept(daemon: Daemon) -> None:
    """After thousands, over every method, the worker holds nothing: memory, threads and descriptors are as before."""

    def send(rounds: int) -> None:
        for _ in range(rounds):
            calls = [begin(daemon.channel, method, b"\xff", timeout=LIMIT) for method in METHODS for _ in range(6)]
            codes = {call.code() for call in calls}
            assert codes == {grpc.StatusCode.INVALID_ARGUMENT}

    send(3)
    before = daemon.resident_bytes()
    send(3000 // (6 * len(METHODS)))
    assert daemon.resident_bytes() - before < 10 * 1024 * 1024


def test_later_message(daemon: Daemon) -> None:
    """In a stream of requests what was good is answered before the one that cannot be read ends it."""
    good = reflection_pb2.ServerReflectionRequest(list_services="").SerializeToString()
    answers: Any = daemon.channel.stream_stream(
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )(iter([good, b"\xff", good]), timeout=LIMIT)
    assert len(next(answers).list_services_response.service) == 4
    assert refused(lambda: next(answers))[0] is grpc.StatusCode.INVALID_ARGUMENT
    assert daemon.end(daemon.start("true")).job.state == pb.JOB_STATE_SUCCEEDED
