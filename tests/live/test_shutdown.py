"""The end always comes, in order, in bounded time, with status 0."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.support.daemon import LIMIT, TWISTD, Daemon, wait_until
from tests.support.hanging import exec_that_waits, open_that_waits
from tests.support.scheduler import SchedulerStandIn
from txworker.linux.procfs import ProcessTable
from txworker.pb import worker_pb2 as pb
from txworker.pb.worker_pb2_grpc import WorkerStub

GRACE = 1
PR_SET_CHILD_SUBREAPER = 36


def runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def lives(pid: int) -> bool:
    """A zombie does not; init waits for it when it likes."""
    process = ProcessTable().read(pid)
    return process is not None and not process.zombie


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal(a_daemon: Callable[..., Daemon], number: signal.Signals) -> None:
    """One signal ends the worker and its job, and the exit status is 0."""
    worker = a_daemon()
    pid = worker.query(worker.start("sleep", "1000")).job.pid
    assert worker.stop(number) == 0
    assert not runs(pid)
    assert "goodbye" in worker.log()


def test_signals_to_its_end(a_daemon: Callable[..., Daemon]) -> None:
    """Whatever signals come while it stops, until there is no process, the exit status is 0."""
    worker = a_daemon()
    worker.process.send_signal(signal.SIGTERM)
    while worker.process.poll() is None:
        for number in (signal.SIGUSR2, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1):
            worker.process.send_signal(number)
        time.sleep(0.001)  # nothing is awaited: signals come at every moment, and do not take all of the CPU
    assert worker.process.wait(LIMIT) == 0
    assert "goodbye" in worker.log()


def test_whatever_is_open(a_daemon: Callable[..., Daemon]) -> None:
    """With 50 streams, 20 jobs of which five ignore TERM, and a stalled viewer it ends within grace + 5 seconds."""
    worker = a_daemon(f"[jobs]\nstop_grace_seconds = {GRACE}")
    stubborn = [worker.bash("trap '' TERM; echo up; while :; do sleep 0.2; done") for _ in range(5)]
    jobs = stubborn + [worker.bash("echo up; exec sleep 1000") for _ in range(15)]
    pids = [worker.query(job_id).job.pid for job_id in jobs]
    requests = [pb.StreamJobReq(path=jobs[number % 20]) for number in range(50)]
    streams = [worker.stub.StreamJob(request, timeout=2 * LIMIT) for request in requests]
    assert [next(stream).output for stream in streams] == ["up\n"] * 50
    loud = worker.bash("head -c 50000000 /dev/zero; exec sleep 1000")
    channel = grpc.insecure_channel(worker.addr, [("grpc.use_local_subchannel_pool", 1)])
    next(iter(WorkerStub(channel).StreamJob(pb.StreamJobReq(jobID=loud, raw=True))))
    wait_until(lambda: worker.query(loud).job.outputBytes == 50_000_000)

    begun = time.monotonic()
    assert worker.stop() == 0
    assert time.monotonic() - begun < GRACE + 5
    assert [list(stream) for stream in streams] == [[]] * 50
    assert [pid for pid in pids if runs(pid)] == []
    channel.close()


def test_while_stopping(a_daemon: Callable[..., Daemon]) -> None:
    """From the first moment of stopping no job is taken and health says so; what runs can still be asked after."""
    worker = a_daemon(f"[jobs]\nstop_grace_seconds = {LIMIT}")
    job_id = worker.bash("trap '' TERM; echo up; while [ ! -e go ]; do sleep 0.02; done")
    stream = worker.stub.StreamJob(pb.StreamJobReq(path=job_id))
    assert next(iter(stream)).output == "up\n"
    worker.process.terminate()
    wait_until(lambda: worker.query(job_id).job.state == pb.JOB_STATE_STOPPING)
    with pytest.raises(grpc.RpcError) as caught:
        worker.start("true")
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    health = health_pb2_grpc.HealthStub(worker.channel).Check(health_pb2.HealthCheckRequest())
    assert health.status == health_pb2.HealthCheckResponse.NOT_SERVING
    (worker.place / "go").touch()
    assert list(stream) == []
    assert worker.process.wait(LIMIT) == 0


def test_scheduler_is_told(a_daemon: Callable[..., Daemon]) -> None:
    """The scheduler hears of the worker's real address at the start, and goodbye at the end."""
    scheduler = SchedulerStandIn()
    scheduler.start()
    worker = a_daemon(f'[scheduler]\naddr = "{scheduler.addr}"')
    assert scheduler.next_event() == ("register", worker.addr, "worker-1")
    assert worker.stop() == 0
    assert scheduler.next_event() == ("deregister", "", "worker-1")
    scheduler.stop()


@pytest.mark.slow
def test_scheduler_that_does_not_answer(a_daemon: Callable[..., Daemon]) -> None:
    """A scheduler that hangs holds the end up for two seconds at most, and not for as long as it hangs."""
    scheduler = SchedulerStandIn()
    scheduler.open_gate.clear()
    scheduler.start()
    worker = a_daemon(f'[scheduler]\naddr = "{scheduler.addr}"')
    worker.end(worker.start("true"))
    begun = time.monotonic()
    assert worker.stop() == 0
    assert time.monotonic() - begun < LIMIT / 3
    scheduler.stop()


@pytest.fixture
def subreaper() -> Iterator[None]:
    """The end of a daemon comes to us meanwhile; not afterwards, or every orphan would stay a zombie for us."""
    assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    yield
    assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0) == 0


def test_daemon(tmp_path: Path, subreaper: None) -> None:
    """As a daemon it serves, too; SIGTERM to the pid in its pidfile leaves no process, no pidfile, and status 0."""
    (tmp_path / "worker.toml").write_text('[grpc_server]\naddr = "127.0.0.1:0"')
    options = ["--pidfile=worker.pid", "--logfile=worker.log", "worker", "--config", "worker.toml"]
    subprocess.run([TWISTD, *options], cwd=tmp_path, check=True, timeout=LIMIT, stdin=subprocess.DEVNULL)
    log = tmp_path / "worker.log"
    found = wait_until(lambda: re.search(r"Serving on (\S+:\d+)", log.read_text()))
    pid = int((tmp_path / "worker.pid").read_text())
    with grpc.insecure_channel(found[1]) as channel:
        stub = WorkerStub(channel)
        job_id = stub.StartJob(pb.StartJobReq(command="echo", path="hi"), timeout=LIMIT).jobID
        assert [m.output for m in stub.StreamJob(pb.StreamJobReq(path=job_id), timeout=LIMIT)] == ["hi\n"]
        assert stub.QueryJob(pb.QueryJobReq(jobID=job_id)).job.state == pb.JOB_STATE_SUCCEEDED
        sleeper = stub.StartJob(pb.StartJobReq(command="sleep 1000")).jobID
        job_pid = stub.QueryJob(pb.QueryJobReq(jobID=sleeper)).job.pid
        stub.StopJob(pb.StopJobReq(jobID=stub.StartJob(pb.StartJobReq(command="sleep 1000")).jobID))
        os.kill(pid, signal.SIGTERM)
        ended = wait_until(lambda: os.waitpid(pid, os.WNOHANG)[1:] if _ended(pid) else None)
    assert os.waitstatus_to_exitcode(ended[0]) == 0
    assert not (tmp_path / "worker.pid").exists()
    assert not runs(job_pid)


def _ended(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


@pytest.mark.slow
def test_launch_that_hangs(a_daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    """While an exec waits for a disk all else goes on; the worker ends all the same, and starts nothing any more."""
    worker = a_daemon(f"[jobs]\nstop_grace_seconds = {GRACE}", server="max_streams = 1")
    other = worker.start("sleep", "1000")
    before = set(ProcessTable().children(worker.shim()))
    with exec_that_waits(tmp_path, "true") as (program, tried):
        call = worker.stub.StartJob.future(pb.StartJobReq(path=str(program)))
        wait_until(tried.is_set)
        order = pb.StartJobReq(command="touch started", directory=str(tmp_path))
        behind = [worker.stub.StartJob.future(order) for _ in range(100)]  # more than there are threads
        assert not call.done()
        (hanging,) = set(ProcessTable().children(worker.shim())) - before
        worker.stub.StopJob(pb.StopJobReq(jobID=other), timeout=LIMIT)
        assert worker.end(other).job.state == pb.JOB_STATE_STOPPED
        assert worker.stop() == 0
        assert all(isinstance(one.exception(LIMIT), grpc.RpcError) for one in behind)
        wait_until(lambda: not lives(hanging))
    assert not (tmp_path / "started").exists()


def test_launch_that_is_late(a_daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    """A launch that hung is answered like any other when the disk answers; of those behind it, who still waits."""
    worker = a_daemon()
    with exec_that_waits(tmp_path, "echo here") as (program, tried):
        late = worker.stub.StartJob.future(pb.StartJobReq(path=str(program)))
        wait_until(tried.is_set)
        gone = worker.stub.StartJob.future(pb.StartJobReq(command="echo nobody"), timeout=0.2)
        behind = worker.stub.StartJob.future(pb.StartJobReq(command="echo there"))
        gone.exception(LIMIT)
        assert gone.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert not behind.done()
    assert worker.text(late.result(LIMIT).jobID) == "here\n"
    assert worker.text(behind.result(LIMIT).jobID) == "there\n"
    assert len(worker.stub.ListJobs(pb.ListJobsReq()).jobs) == 2
    assert len(os.listdir(worker.output)) == 2


@pytest.mark.slow
def test_disk_that_hangs(a_daemon: Callable[..., Daemon]) -> None:
    """A thread that waits for a file for ever, here for the configuration, holds up the end by two seconds or so."""
    worker = a_daemon()
    with open_that_waits(worker.config) as tried:
        worker.process.send_signal(signal.SIGHUP)
        assert tried.wait(LIMIT)
        assert worker.stop(limit_seconds=10.0) == 0
