"""What others do to a job, its files or the worker, and what the worker makes of it."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from tests.support.daemon import LIMIT, Daemon, wait_until
from txworker.linux.procfs import ProcessTable
from txworker.pb import worker_pb2 as pb

ADaemon = Callable[..., Daemon]

TRACER = """
import ctypes, os, sys, time
for fd in (1, 2):
    os.dup2(os.open("/dev/null", os.O_WRONLY), fd)
assert ctypes.CDLL(None).ptrace(0x4206, int(sys.argv[1]), 0, 0) == 0  # PTRACE_SEIZE
open(sys.argv[2], "w").write(str(os.getpid()))
time.sleep(1000)
"""
"""Traces a process and does not wait for it: its end is shown to nobody else as long as this lives."""

STEADY = """
import time
for number in range(60):
    print(number, flush=True)
    time.sleep(0.1)
"""


def refused(call: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code(), str(caught.value.details())


def test_output_cut(daemon: Daemon) -> None:
    """A viewer of output that somebody cuts is told so, and does not ask for the rest again and again."""
    job_id = daemon.bash("echo begun; read; sleep 0.1; echo more; exec sleep 1000")
    stream = daemon.stub.StreamJob(pb.StreamJobReq(jobID=job_id, raw=True), timeout=LIMIT)
    file = daemon.output / f"{job_id}.out"
    wait_until(lambda: daemon.query(job_id).job.outputBytes == 11)
    stream.cancel()
    os.truncate(file, 0)
    code, sentence = refused(lambda: daemon.raw(job_id))
    assert (code, "another program has cut its file" in sentence) == (grpc.StatusCode.DATA_LOSS, True)
    daemon.stub.StopJob(pb.StopJobReq(jobID=job_id))


def test_output_deleted(daemon: Daemon) -> None:
    """The job is known as before; who asks for its output is told what has become of it."""
    job_id = daemon.bash("echo here")
    daemon.end(job_id)
    (daemon.output / f"{job_id}.out").unlink()
    code, sentence = refused(lambda: daemon.raw(job_id))
    assert (code, "another program has deleted its file" in sentence) == (grpc.StatusCode.DATA_LOSS, True)
    assert daemon.query(job_id).done


def test_output_replaced(daemon: Daemon) -> None:
    """A pipe in the place of a file holds up nobody."""
    go = daemon.place / "replaced"
    job_id = daemon.bash(f"until [ -e {go} ]; do sleep 0.02; done; echo lost")
    file = daemon.output / f"{job_id}.out"
    file.unlink()
    os.mkfifo(file)
    go.touch()
    wait_until(lambda: daemon.query(job_id).done)
    assert daemon.query(job_id).job.outputTruncated
    assert daemon.raw(daemon.bash("echo there")) == b"there\n"
    file.unlink()


def test_farthest_offset(daemon: Daemon) -> None:
    """An offset that no file has is beyond the end like any other."""
    job_id = daemon.bash("echo here")
    daemon.end(job_id)
    for offset in (6, 2**62, 2**63 - 1):
        code, _ = refused(lambda offset=offset: daemon.raw(job_id, offset=offset))  # type: ignore[misc]
        assert code is grpc.StatusCode.OUT_OF_RANGE


@pytest.mark.parametrize("cgroups", ["true", pytest.param("false", marks=pytest.mark.slow)])
def test_traced(a_daemon: ADaemon, tmp_path: Path, cgroups: str) -> None:
    """A job that is traced by one that it left behind ends when it is stopped, and so does that one."""
    worker = a_daemon(f"[jobs]\nuse_cgroups = {cgroups}\n")
    (tmp_path / "tracer").write_text(TRACER)
    told = tmp_path / "pid"
    job_id = worker.bash(f"setsid {sys.executable} {tmp_path}/tracer $$ {told} & exec sleep 1000")
    tracer = int(wait_until(lambda: told.exists() and told.read_text()))
    worker.stub.StopJob(pb.StopJobReq(jobID=job_id, grace=Duration(nanos=100_000_000)))
    wait_until(lambda: worker.query(job_id).done)
    assert worker.query(job_id).job.state == pb.JOB_STATE_STOPPED
    wait_until(lambda: not Path(f"/proc/{tracer}").exists())


@pytest.mark.slow
def test_quiet_while_the_worker_stood_still(a_daemon: ADaemon) -> None:
    """A worker that was stopped for longer than a job may be quiet reads what came before it says so."""
    worker = a_daemon()
    job_id = worker.start(sys.executable, "-c", STEADY, quietTimeout=Duration(seconds=3))
    wait_until(lambda: worker.query(job_id).job.outputBytes)
    worker.process.send_signal(signal.SIGSTOP)
    time.sleep(3.3)  # this long, and no longer: the job prints on meanwhile, and afterwards
    worker.process.send_signal(signal.SIGCONT)
    assert worker.end(job_id).job.state == pb.JOB_STATE_SUCCEEDED


@pytest.mark.slow
@pytest.mark.parametrize("who", ["worker", "shim"])
def test_ended_while_one_stood_still(a_daemon: ADaemon, who: str) -> None:
    """A job that ends in time has not timed out, though the worker learns so only after its limit."""
    worker = a_daemon()
    stopped = worker.process.pid if who == "worker" else worker.shim()
    job_id = worker.bash(
        "until [ -e go ]; do sleep 0.02; done", timeout=Duration(seconds=3), directory=str(worker.place)
    )
    pid = worker.query(job_id).job.pid
    over = time.monotonic() + 3.5
    os.kill(stopped, signal.SIGSTOP)
    try:
        (worker.place / "go").touch()
        wait_until(lambda: ProcessTable().awaits_parent(pid), 2.5)
        wait_until(lambda: time.monotonic() > over)
    finally:
        os.kill(stopped, signal.SIGCONT)
    assert worker.end(job_id).job.state == pb.JOB_STATE_SUCCEEDED


def test_output_directory_of_two(a_daemon: ADaemon, tmp_path: Path) -> None:
    """Another worker's jobs are nobody else's, though their output lies side by side."""
    shared = f'[jobs]\noutput_directory = "{tmp_path}/shared"\nstate_directory = "state"\n'
    mine, others = a_daemon(shared), a_daemon(shared)
    lost, running = mine.start("sleep", "1000"), others.start("sleep", "1000")
    mine.kill_with_shim()
    again = Daemon(mine.place, shared)
    try:
        assert again.query(lost).job.state == pb.JOB_STATE_LOST
        assert others.query(running).job.state == pb.JOB_STATE_RUNNING
        assert os.path.exists(f"/proc/{others.query(running).job.pid}")
    finally:
        again.close()
