"""Calls that are begun and whose message never comes, beside clients that do nothing of the kind."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from bench.launch import resident_bytes
from tests.support.daemon import LIMIT, Daemon, wait_until
from tests.support.frames import METHODS, QUERY, START, RawConnection, connections
from txworker.pb import worker_pb2 as pb

NOT_STARTS = [method for method in METHODS if method != START]  # starts have more time
PARTS = {"headers only": b"", "its length only": b"\0\0\0\0\x26", "half of it": b"\0\0\0\0\x26\x0a\x24half"}
"""How much of its message comes."""


def everything_answers(daemon: Daemon, within_seconds: float = 1.0) -> bool:
    """
    Whether another client gets an answer from each kind of method in the time that a scheduler gives a worker. It may
    not where the machine has no CPU for it: such a test tries again, with calls that are begun anew.
    """
    health = health_pb2_grpc.HealthStub(daemon.channel)
    try:
        job_id = daemon.stub.StartJob(pb.StartJobReq(command="true"), timeout=within_seconds).jobID
        daemon.stub.QueryJob(pb.QueryJobReq(jobID=job_id), timeout=within_seconds)
        daemon.stub.ListJobs(pb.ListJobsReq(), timeout=within_seconds)
        daemon.stub.StopJob(pb.StopJobReq(jobID=job_id), timeout=within_seconds)
        list(daemon.stub.StreamJob(pb.StreamJobReq(jobID=job_id), timeout=within_seconds))
        health.Check(health_pb2.HealthCheckRequest(), timeout=within_seconds)
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
            raise
        return False
    return True


def begun(one: RawConnection, methods: Sequence[str], count: int, part: bytes = b"") -> set[int]:
    """`count` calls on that connection, of these methods in turn."""
    return {one.begin(methods[number % len(methods)], part) for number in range(count)}


def test_on_one_connection(daemon: Daemon) -> None:
    """As many as there are threads for calls take none of them, hold up no method, and are ended soon."""
    before = daemon.threads()

    def nothing_is_held_up() -> bool:
        with connections(daemon.addr, 1) as (one,):
            begun(one, [START], 31)
            others = begun(one, NOT_STARTS, 310)
            one.read(0.1)
            answered = everything_answers(daemon)
            assert daemon.threads() < before + 30
            assert one.all_ended(others, LIMIT / 3), len(others - one.ended)
            return answered

    wait_until(nothing_is_held_up, 4 * LIMIT)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_of_each_method(daemon: Daemon, method: str) -> None:
    """The same, whatever method they name; starts are given more time."""

    def nothing_is_held_up() -> bool:
        with connections(daemon.addr, 1) as (one,):
            numbers = begun(one, [method], 310)
            answered = everything_answers(daemon)
            assert one.all_ended(numbers, LIMIT / 2), len(numbers - one.ended)
            return answered

    wait_until(nothing_is_held_up, 4 * LIMIT)


@pytest.mark.parametrize("part", PARTS)
def test_on_many_connections(daemon: Daemon, part: str) -> None:
    """One on each of many connections, of all methods in turn, does the same."""

    def nothing_is_held_up() -> bool:
        with connections(daemon.addr, 310) as many:
            for number, one in enumerate(many):
                one.begin(METHODS[number % len(METHODS)], PARTS[part])
            return everything_answers(daemon)

    wait_until(nothing_is_held_up, 4 * LIMIT)


@pytest.mark.slow
def test_nothing_is_left(a_daemon: Callable[..., Daemon]) -> None:
    """Thousands of them, one after another, leave no thread, no descriptor and hardly any memory."""
    daemon = a_daemon()

    def begin_and_end_some() -> None:
        with connections(daemon.addr, 1) as (one,):
            assert one.all_ended(begun(one, METHODS, 1000), LIMIT)

    begin_and_end_some()
    descriptors, memory = daemon.descriptors(), resident_bytes(daemon)
    for _ in range(4):
        begin_and_end_some()
    wait_until(lambda: daemon.descriptors() <= descriptors)
    assert resident_bytes(daemon) - memory < 10e6


def test_the_client_is_told(daemon: Daemon) -> None:
    """A client whose message does not come is told so in a sentence; one that sends it a little later is answered."""
    query: Any = daemon.channel.stream_unary(QUERY)
    job_id = daemon.start("true")
    message = pb.QueryJobReq(jobID=job_id).SerializeToString()

    def in_time() -> bool:
        try:
            return bool(query(slowly(message, 0.3), timeout=LIMIT))
        except grpc.RpcError as error:  # it was not, on a busy machine
            if "did not come within 1 s" not in str(error.details()):
                raise
            return False

    wait_until(in_time, 4 * LIMIT)
    with pytest.raises(Exception, match="did not come within 1 s"):
        query(slowly(message, 1.8), timeout=LIMIT)


def slowly(message: bytes, seconds: float) -> Iterator[bytes]:
    """One message, later."""
    time.sleep(seconds)
    yield message
