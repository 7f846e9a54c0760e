"""The standard health service: what it says, and that nothing a client does with it holds up the worker."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2 as pb
from grpc_health.v1.health_pb2_grpc import HealthStub

from tests.support.daemon import LIMIT, Daemon, wait_until
from txworker.pb import worker_pb2

SERVING, NOT_SERVING = pb.HealthCheckResponse.SERVING, pb.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = pb.HealthCheckResponse.SERVICE_UNKNOWN
NAMES = ("", "Worker", "jobscheduler.Worker")


@contextmanager
def a_client(worker: Daemon) -> Iterator[HealthStub]:
    """With a connection of its own."""
    with grpc.insecure_channel(worker.addr, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        yield HealthStub(channel)


def watch(stub: HealthStub, service: str = "") -> Any:
    return stub.Watch(pb.HealthCheckRequest(service=service), timeout=LIMIT)


@pytest.mark.parametrize("seconds", [0.3, pytest.param(1.5, marks=pytest.mark.slow)])
def test_watches_come_and_go(a_daemon: Callable[..., Daemon], seconds: float) -> None:
    """Clients that open a Watch, read one message and cancel hold up neither other calls nor the worker's end."""
    worker = a_daemon()
    end = time.monotonic() + seconds

    def come_and_go() -> None:
        with a_client(worker) as stub:
            while time.monotonic() < end:
                call = watch(stub)
                next(call)
                call.cancel()
                time.sleep(0.05)

    clients = [threading.Thread(target=come_and_go, daemon=True) for _ in range(2)]
    for client in clients:
        client.start()
    time.sleep(seconds)
    with pytest.raises(grpc.RpcError) as caught:
        worker.stub.QueryJob(worker_pb2.QueryJobReq(jobID="nobody"), timeout=LIMIT)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert worker.stop(signal.SIGTERM) == 0


def test_check_and_list(daemon: Daemon) -> None:
    """Each name is SERVING, asked for by itself and in the list; a name that is not served is NOT_FOUND."""
    stub = HealthStub(daemon.channel)
    for name in (*NAMES, "live"):
        assert stub.Check(pb.HealthCheckRequest(service=name), timeout=LIMIT).status == SERVING
    statuses = stub.List(pb.HealthListRequest(), timeout=LIMIT).statuses
    assert {name: statuses[name].status for name in statuses} == dict.fromkeys((*NAMES, "live"), SERVING)
    with pytest.raises(grpc.RpcError) as caught:
        stub.Check(pb.HealthCheckRequest(service="x" * 1000), timeout=LIMIT)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert "service: 'xxx" in str(caught.value.details())


def test_watch_to_the_end(a_daemon: Callable[..., Daemon]) -> None:
    """A Watch tells what is so and then each change, also to one that reads late, and ends with the worker."""
    worker = a_daemon()
    job_id = worker.start("sleep", "1000")
    with a_client(worker) as stub:
        calls = {name: watch(stub, name) for name in (*NAMES, "unknown")}
        assert [next(call).status for call in calls.values()] == [SERVING] * 3 + [SERVICE_UNKNOWN]
        late, live = watch(stub), watch(stub, "live")
        late.initial_metadata()
        worker.process.send_signal(signal.SIGQUIT)
        assert [next(calls[name]).status for name in NAMES] == [NOT_SERVING] * 3
        assert stub.Check(pb.HealthCheckRequest(service="live"), timeout=LIMIT).status == SERVING
        worker.stub.StopJob(worker_pb2.StopJobReq(jobID=job_id), timeout=LIMIT)
        assert rest(late) == [SERVING, NOT_SERVING]
        assert rest(live) == [SERVING]
        assert [rest(call) for call in calls.values()] == [[]] * 4
    assert worker.process.wait(LIMIT) == 0


def rest(call: Any) -> list[int]:
    """The statuses that still come, until the worker ends the stream because it stops."""
    found: list[int] = []
    with pytest.raises(grpc.RpcError, match="stopping") as caught:
        found.extend(message.status for message in call)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    return found


def test_many_that_nobody_reads(a_daemon: Callable[..., Daemon]) -> None:
    """However many Watches are open, a change is announced, other calls are answered, and the worker ends soon."""
    worker = a_daemon(server="max_streams = 64")
    with ExitStack() as stack:
        stubs = [stack.enter_context(a_client(worker)) for _ in range(4)]
        calls = [watch(stub, str(number % 3)) for number, stub in enumerate(stubs * 25)]
        wait_until(lambda: sum(call.done() for call in calls) == len(calls) - 64)
        refused = [call.code() for call in calls if call.done()]
        assert set(refused) == {grpc.StatusCode.RESOURCE_EXHAUSTED}
        worker.start("sleep", "1000")
        worker.process.send_signal(signal.SIGQUIT)
        stub = HealthStub(worker.channel)
        wait_until(lambda: stub.Check(pb.HealthCheckRequest(), timeout=LIMIT).status == NOT_SERVING)
        begun = time.monotonic()
        assert worker.stop() == 0
        assert time.monotonic() - begun < LIMIT / 2
