"""Many starts with much stdin at once: what their requests hold in memory has a bound, and is given back."""

from __future__ import annotations

from collections.abc import Callable

import grpc
import pytest

from bench.launch import resident_bytes
from bench.viewers import peak_bytes
from tests.support.daemon import LIMIT, Daemon, wait_until
from txworker.daemon.memory import LOOK_SECONDS
from txworker.pb import worker_pb2 as pb

STDIN_BYTES = 4 * 1024 * 1024 - 300  # with the rest of the request just what gRPC takes


def start_at_once(daemon: Daemon, count: int) -> int:
    """
    How many of so many were taken; the others were refused because there are many, or, on a busy machine, because so
    many megabytes did not come in time.
    """
    daemon.end(daemon.start("true"))
    request = pb.StartJobReq(command="wc", args=["-c"], stdin=bytes(STDIN_BYTES))
    calls = [daemon.stub.StartJob.future(request, timeout=4 * LIMIT) for _ in range(count)]
    refused = [call for call in calls if call.exception()]
    for call in refused:
        reasons = {
            grpc.StatusCode.RESOURCE_EXHAUSTED: "large starts",
            grpc.StatusCode.DEADLINE_EXCEEDED: "did not come",
        }
        assert reasons.get(call.code(), "another") in call.details(), call
    taken = [call.result().jobID for call in calls if call not in refused]
    for job_id in taken:
        assert daemon.raw(job_id) == b"%d\n" % STDIN_BYTES
    return len(taken)


def test_bound(a_daemon: Callable[..., Daemon]) -> None:
    """Most are taken, one after another, and all arrive whole."""
    daemon = a_daemon()
    assert start_at_once(daemon, 60) > 20
    assert peak_bytes(daemon) < 250e6


def test_large_questions(daemon: Daemon) -> None:
    """What starts no job may not hold megabytes either; the sentence names both numbers."""
    with pytest.raises(grpc.RpcError, match=r"has 2097154 bytes; 1048576 at most") as caught:
        daemon.stub.QueryJob(pb.QueryJobReq(jobID="x" * (2 * 1024 * 1024 - 2)), timeout=LIMIT)
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.slow
def test_given_back(a_daemon: Callable[..., Daemon]) -> None:
    """A while after four hundred the worker holds hardly more than before."""
    daemon = a_daemon()
    daemon.end(daemon.start("true"))
    before = resident_bytes(daemon)
    assert start_at_once(daemon, 400) > 100
    assert peak_bytes(daemon) < 450e6
    wait_until(lambda: resident_bytes(daemon) - before < 50e6, 2 * LOOK_SECONDS)
