"""Draining a real worker: what is promised of it to its jobs, its viewers, its scheduler and its operator."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.support.command_line import PROGRAM, txworker
from tests.support.daemon import LIMIT, Daemon, running, wait_until
from tests.support.scheduler import SchedulerStandIn
from txworker.config import Jobs
from txworker.linux.procfs import ProcessTable
from txworker.pb import control_pb2
from txworker.pb import worker_pb2 as pb
from txworker.pb.control_pb2_grpc import ControlStub

UNTIL_GO = "echo up; while [ ! -e go ]; do sleep 0.02; done; echo bye"
"""A job that ends once the file is there."""

GRACE = 0.5


def a_stubborn_job(worker: Daemon) -> str:
    """One that ends by KILL only; its id."""
    job_id = worker.bash("trap '' TERM; echo up; while :; do sleep 0.2; done")
    wait_until(lambda: worker.query(job_id).job.outputBytes)  # the trap is set
    return job_id


def by_signal(worker: Daemon) -> None:
    worker.process.send_signal(signal.SIGQUIT)
    wait_until(lambda: "Draining" in worker.log())


def by_command(worker: Daemon) -> None:
    status, out, err = txworker(worker, "drain", "--state-directory", str(worker.place / "state"))
    assert (status, err) == (0, "")
    assert out.startswith(b"draining: 1 job is still running")


def has_ended(worker: Daemon) -> bool:
    """Its process has; who started it may not have waited for it yet."""
    process = ProcessTable().read(worker.process.pid)
    return process is None or process.zombie


def drain_over(address: str) -> int:
    with grpc.insecure_channel(address) as channel:
        return ControlStub(channel).Drain(control_pb2.DrainReq(), timeout=LIMIT).running


def health(worker: Daemon) -> int:
    status: int = health_pb2_grpc.HealthStub(worker.channel).Check(health_pb2.HealthCheckRequest()).status
    return status


@pytest.mark.parametrize("drain", [by_signal, by_command])
def test_drain(a_daemon: Callable[..., Daemon], drain: Callable[[Daemon], None]) -> None:
    """
    No new jobs, NOT_SERVING, and goodbye to the scheduler at once; the job that runs ends by itself, its viewer sees
    all of it, its request id still brings it back; then the worker ends with status 0.
    """
    scheduler = SchedulerStandIn()
    scheduler.start()
    worker = a_daemon(f'[scheduler]\naddr = "{scheduler.addr}"')
    assert scheduler.next_event()[0] == "register"
    wait_until(lambda: "Registered with the scheduler" in worker.log())
    job_id = worker.bash(UNTIL_GO, requestID="once")
    stream = worker.stub.StreamJob(pb.StreamJobReq(jobID=job_id, raw=True), timeout=LIMIT)
    assert next(iter(stream)).data == b"up\n"

    drain(worker)
    assert scheduler.next_event() == ("deregister", "", "worker-1")
    with pytest.raises(grpc.RpcError) as caught:
        worker.start("true")
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert caught.value.details() == "this worker is stopping and takes no new jobs"
    assert health(worker) == health_pb2.HealthCheckResponse.NOT_SERVING
    assert worker.bash(UNTIL_GO, requestID="once") == job_id
    assert worker.query(job_id).job.state == pb.JOB_STATE_RUNNING

    (worker.place / "go").touch()
    assert b"".join(message.data for message in stream) == b"bye\n"
    assert worker.process.wait(LIMIT) == 0
    assert "SUCCEEDED" in worker.log()
    assert not (worker.place / "state" / "control.sock").exists()
    scheduler.stop()


def test_nothing_runs(a_daemon: Callable[..., Daemon]) -> None:
    """A worker without jobs answers, says goodbye, and ends at once."""
    scheduler = SchedulerStandIn()
    scheduler.start()
    worker = a_daemon(f'[scheduler]\naddr = "{scheduler.addr}"')
    assert scheduler.next_event()[0] == "register"
    wait_until(lambda: "Registered with the scheduler" in worker.log())
    assert drain_over(f"unix:{worker.place / 'state' / 'control.sock'}") == 0
    assert worker.process.wait(LIMIT) == 0
    assert scheduler.next_event() == ("deregister", "", "worker-1")
    scheduler.stop()


def test_stopped_meanwhile(a_daemon: Callable[..., Daemon]) -> None:
    """SIGTERM during a drain ends jobs and worker as ever: KILL after the grace period, with status 0."""
    worker = a_daemon(f"[jobs]\nstop_grace_seconds = {GRACE}")
    pid = worker.query(a_stubborn_job(worker)).job.pid
    by_signal(worker)
    begun = time.monotonic()
    assert worker.stop() == 0
    assert time.monotonic() - begun < Jobs.stop_grace_seconds  # the default
    assert not Path(f"/proc/{pid}").exists()
    assert "Traceback" not in worker.log()


@pytest.mark.slow
def test_again_and_again(a_daemon: Callable[..., Daemon]) -> None:
    """Further signals and calls change nothing. While the worker is being stopped already, it says so instead."""
    worker = a_daemon(f"[jobs]\nstop_grace_seconds = {GRACE}")
    worker.bash(UNTIL_GO)
    control = f"unix:{worker.place / 'state' / 'control.sock'}"
    for _ in range(3):
        worker.process.send_signal(signal.SIGQUIT)
        assert drain_over(control) == 1
    (worker.place / "go").touch()
    assert worker.process.wait(LIMIT) == 0
    assert worker.log().count("Draining:") == 1
    assert "Traceback" not in worker.log()

    worker = a_daemon(f"[jobs]\nstop_grace_seconds = {LIMIT}")
    job_id = worker.bash(f"trap '' TERM; {UNTIL_GO}")
    wait_until(lambda: worker.query(job_id).job.outputBytes)  # the trap is set
    worker.process.terminate()
    wait_until(lambda: "SIGTERM: stopping" in worker.log())
    worker.process.send_signal(signal.SIGQUIT)
    with pytest.raises(grpc.RpcError) as refused:
        drain_over(f"unix:{worker.place / 'state' / 'control.sock'}")
    assert "stopping already and does not wait for its unfinished jobs (1)" in str(refused.value)
    (worker.place / "go").touch()
    assert worker.process.wait(LIMIT) == 0
    assert "Traceback" not in worker.log()


@pytest.mark.slow
def test_slow_viewer(a_daemon: Callable[..., Daemon]) -> None:
    """One who is slow to read what the last job printed gets all of it before the worker ends."""
    worker = a_daemon()
    size = 30_000_000
    job_id = worker.bash(f"{UNTIL_GO}; head -c {size} /dev/zero")
    stream = worker.stub.StreamJob(pb.StreamJobReq(jobID=job_id, raw=True), timeout=LIMIT)
    assert next(iter(stream)).data == b"up\n"
    by_signal(worker)
    (worker.place / "go").touch()
    wait_until(lambda: "Drained" in worker.log())
    with pytest.raises(subprocess.TimeoutExpired):  # longer than open calls are given when a worker is stopped
        worker.process.wait(2)
    assert sum(len(message.data) for message in stream) == size + len("bye\n")
    assert worker.process.wait(LIMIT) == 0


def test_who_may(a_daemon: Callable[..., Daemon]) -> None:
    """Only those who may use the socket: it and its directory are the worker's user's alone, and TCP is no way."""
    worker = a_daemon()
    state = worker.place / "state"
    socket = state / "control.sock"
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    assert stat.S_IMODE(socket.stat().st_mode) == 0o600
    with pytest.raises(grpc.RpcError) as caught:
        drain_over(worker.addr)
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert "control.sock in the worker's state directory" in str(caught.value.details())
    assert worker.start("true")  # and nothing has come of it


def test_wait_for_the_end(a_daemon: Callable[..., Daemon]) -> None:
    """`txworker drain --wait` comes back when the worker's process has ended, and not before."""
    worker = a_daemon()
    worker.bash(UNTIL_GO)
    words = [*PROGRAM, "drain", "--state-directory", "state", "--wait"]
    with running(words, cwd=worker.place) as waiting:
        assert waiting.stdout is not None
        assert waiting.stdout.readline() == b"draining: 1 job is still running\n"
        assert waiting.poll() is None
        (worker.place / "go").touch()
        assert waiting.communicate(timeout=LIMIT) == (b"", b"")
        assert has_ended(worker)
    assert (waiting.returncode, worker.process.wait(LIMIT)) == (0, 0)
    again = subprocess.run(words, cwd=worker.place, capture_output=True, timeout=LIMIT, check=False)
    assert again.returncode == 69
    assert again.stderr.startswith(b"txworker: no worker answers at unix:")


def test_odd_path(a_daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    """A state directory may have characters in its name that mean something in a URI."""
    odd = tmp_path / "st%41te #1?"
    worker = a_daemon(f'[jobs]\nstate_directory = "{odd}"')
    worker.bash(UNTIL_GO)
    with running([*PROGRAM, "drain", "--state-directory", str(odd), "--wait"]) as waiting:
        assert waiting.stdout is not None
        assert waiting.stdout.readline() == b"draining: 1 job is still running\n"
        (worker.place / "go").touch()
        assert waiting.communicate(timeout=LIMIT) == (b"", b"")
        assert has_ended(worker)
    assert (waiting.returncode, worker.process.wait(LIMIT)) == (0, 0)


def test_after_a_crash(a_daemon: Callable[..., Daemon]) -> None:
    """A worker that was killed leaves its socket behind; the next one puts its own in the place."""
    first = a_daemon()
    first.stop(signal.SIGKILL)
    assert (first.place / "state" / "control.sock").exists()
    second = a_daemon(f'[jobs]\nstate_directory = "{first.place / "state"}"')
    assert drain_over(f"unix:{first.place / 'state' / 'control.sock'}") == 0
    assert second.process.wait(LIMIT) == 0


def test_long_path(a_daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    """A state directory with a name too long for a socket is only a warning, and SIGQUIT still drains."""
    long = tmp_path / ("x" * 120)
    worker = a_daemon(f'[jobs]\nstate_directory = "{long}"')
    assert "too long for a socket" in worker.log()
    assert "control.sock" not in os.listdir(long)
    by_signal(worker)
    assert worker.process.wait(LIMIT) == 0
