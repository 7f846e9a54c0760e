"""Clients that take connections and do nothing with them, beside jobs and clients that do something."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import grpc
import pytest

from tests.support.daemon import LIMIT, TWISTD, Daemon, wait_until
from tests.support.frames import connections
from txworker.pb import worker_pb2 as pb
from txworker.pb.worker_pb2_grpc import WorkerStub

DESCRIPTORS = 256


@contextmanager
def silent(addr: str, count: int) -> Iterator[None]:
    """`count` connections on which nothing is sent."""
    host, port = addr.rsplit(":", 1)
    with ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(socket.create_connection((host, int(port))))
        yield


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A worker with a low limit of descriptors."""
    prlimit = ["prlimit", f"--nofile={DESCRIPTORS}:{DESCRIPTORS}", TWISTD]
    worker = Daemon(tmp_path_factory.mktemp("narrow"), twistd=prlimit)
    yield worker
    worker.close()


def answered(addr: str) -> bool:
    """A new client gets an answer."""
    with grpc.insecure_channel(addr, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        try:
            WorkerStub(channel).ListJobs(pb.ListJobsReq(), timeout=1.0)
        except grpc.RpcError:
            return False
    return True


@pytest.mark.parametrize("kind", ["without a word", "with HTTP/2 and no call"])
def test_idle_ones_cost_jobs_nothing(narrow: Daemon, kind: str) -> None:
    """More idle connections than there are descriptors: every job's output is whole, and no job is refused."""
    narrow.bash("true")  # this client has its connection already
    with silent(narrow.addr, 400) if kind == "without a word" else connections(narrow.addr, 400):
        job_ids = [narrow.bash(f"sleep 0.2; echo {number}", separateStderr=True) for number in range(12)]
        assert [narrow.raw(job_id) for job_id in job_ids] == [b"%d\n" % number for number in range(12)]
        assert not any(narrow.query(job_id).job.outputTruncated for job_id in job_ids)
    assert "Too many open files" not in narrow.log()
    wait_until(lambda: answered(narrow.addr))


@pytest.mark.slow
def test_a_place_for_others_comes_soon(narrow: Daemon) -> None:
    """Connections on which nothing is said are closed, and others find a place while their clients are still there."""
    with silent(narrow.addr, 400):
        wait_until(lambda: answered(narrow.addr))


def test_viewers_leave_descriptors(narrow: Daemon) -> None:
    """Viewers are refused in a sentence before they take the last descriptors; jobs are started and print."""
    job_id = narrow.bash("sleep 60")
    views = [narrow.stub.StreamJob(pb.StreamJobReq(jobID=job_id), timeout=LIMIT) for _ in range(DESCRIPTORS)]
    try:
        with pytest.raises(grpc.RpcError, match="few open files left"):
            list(narrow.stub.StreamJob(pb.StreamJobReq(jobID=job_id), timeout=LIMIT))
        for number in range(8):
            other = narrow.bash(f"echo {number}")
            wait_until(lambda other=other: narrow.query(other).done)  # type: ignore[misc]
            assert (narrow.output / f"{other}.out").read_text() == f"{number}\n"
    finally:
        for view in views:
            view.cancel()
    wait_until(lambda: whole(narrow, other, b"7\n"))
    narrow.stub.StopJob(pb.StopJobReq(jobID=job_id))


def whole(worker: Daemon, job_id: str, output: bytes) -> bool:
    """A viewer gets that; no: it is refused."""
    try:
        return worker.raw(job_id) == output
    except grpc.RpcError:
        return False


def test_idle_and_not(a_daemon: Callable[..., Daemon]) -> None:
    """A connection without a call is closed after its time; one with a viewer of a silent job is not."""
    worker = a_daemon(server="max_idle_seconds = 0.5")
    job_id = worker.bash("until [ -e closed ]; do sleep 0.02; done; echo end")
    view = worker.stub.StreamJob(pb.StreamJobReq(jobID=job_id), timeout=LIMIT)
    with connections(worker.addr, 1) as (idle,):
        end = time.monotonic() + LIMIT
        while not idle.closed and time.monotonic() < end:
            idle.read(0.1)
        assert idle.closed
    (worker.place / "closed").touch()
    assert "".join(message.output for message in view) == "end\n"


def test_ceiling(a_daemon: Callable[..., Daemon]) -> None:
    """With max_connections one more is closed, and those there are go on."""
    worker = a_daemon(server="max_connections = 3")
    worker.bash("true")
    with connections(worker.addr, 2):
        wait_until(lambda: not answered(worker.addr))
        worker.bash("true")
    wait_until(lambda: answered(worker.addr))
