"""Workers that run their jobs without the shim: because they are told to, or because no shim can run."""

from __future__ import annotations

import re
import signal
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from tests.support.adversary import SCRIPTS, named
from tests.support.daemon import TWISTD, Daemon, cannot_start, wait_until
from txworker.linux.procfs import ProcessTable
from txworker.pb import worker_pb2 as pb

ADaemon = Callable[..., Daemon]
WITHOUT = "[jobs]\nshim = false\n"
NO_CLOSE_RANGE = (sys.executable, str(SCRIPTS / "without_close_range.py"), sys.executable, TWISTD)
"""What starts twistd on a kernel without close_range(2), as the shim needs it."""


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One that was told to do without."""
    worker = Daemon(tmp_path_factory.mktemp("worker"), WITHOUT)
    yield worker
    worker.close()


def test_jobs(worker: Daemon) -> None:
    """Jobs run, are stopped, and what they leave behind is ended; there is no shim."""
    name = uuid.uuid4().hex
    job_id = worker.bash(f"bash -c 'exec -a {name} sleep 100' & setsid bash -c 'exec -a {name} sleep 100' & echo out")
    assert worker.raw(job_id) == b"out\n"
    job = worker.query(job_id).job
    assert (job.state, job.leftoversEnded) == (pb.JOB_STATE_SUCCEEDED, 2)
    assert named(name) == []
    job_id = worker.start("sleep", "100")
    assert ProcessTable().children(worker.process.pid) == [worker.query(job_id).job.pid]
    worker.stub.StopJob(pb.StopJobReq(jobID=job_id))
    assert worker.end(job_id).errorText == "signal: terminated"
    assert not (worker.place / "state" / "shim.sock").exists()


def test_end_of_the_worker(a_daemon: ADaemon) -> None:
    """Jobs end with it: at a stop in order; after a SIGKILL they are ended by the next one, and lost."""
    worker = a_daemon(WITHOUT)
    name = uuid.uuid4().hex
    job_id = worker.bash(f"setsid bash -c 'exec -a {name} sleep 100' & exec -a {name} sleep 100")
    wait_until(lambda: len(named(name)) == 2)
    worker.stop(signal.SIGKILL)
    again = Daemon(worker.place, WITHOUT)
    try:
        assert named(name) == []
        answer = again.query(job_id)
        assert answer.job.state == pb.JOB_STATE_LOST
        assert answer.errorText.startswith("lost: the worker (pid ")
        job_id = again.bash(f"exec -a {name} sleep 100")
        assert again.stop() == 0
        assert named(name) == []
        assert f"Job {job_id} is done: STOPPED" in again.log()
    finally:
        again.close()


def test_limits_in_a_request(worker: Daemon) -> None:
    """A ceiling for output is the worker's own business; every other limit is refused by its name."""
    before = set(worker.output.iterdir())
    job_id = worker.bash("head -c 1000 /dev/zero", limits=pb.Limits(maxOutputBytes=100))
    assert worker.raw(job_id)[:100] == bytes(100)
    assert worker.query(job_id).job.outputTruncated
    for limits, field in [
        (pb.Limits(maxMemoryBytes=2**30), "limits.maxMemoryBytes"),
        (pb.Limits(maxOpenFiles=100), "limits.maxOpenFiles"),
        (pb.Limits(maxProcesses=100), "limits.maxProcesses"),
    ]:
        with pytest.raises(grpc.RpcError) as caught:
            worker.start("true", limits=limits)
        assert caught.value.code() == grpc.StatusCode.FAILED_PRECONDITION
        assert re.match(f"{field}: .* needs the shim", caught.value.details() or "")
    assert {path.name for path in set(worker.output.iterdir()) - before} == {f"{job_id}.out"}


def test_shim_that_has_jobs(a_daemon: ADaemon) -> None:
    """Jobs that a shim has are not given up for a changed key: the worker does not start, and they run on."""
    worker = a_daemon()
    job_id = worker.start("sleep", "100")
    pid = worker.query(job_id).job.pid
    worker.stop(signal.SIGKILL)
    worker.config.write_text(worker.config.read_text() + WITHOUT)
    sentence = cannot_start(worker.config)
    assert "has 1 jobs, and jobs.shim is false" in sentence
    again = Daemon(worker.place)
    try:
        job = again.query(job_id).job
        assert (job.state, job.pid) == (pb.JOB_STATE_RUNNING, pid)
        assert again.stop() == 0
    finally:
        again.close()


def test_no_shim_can_run(tmp_path: Path) -> None:
    """Where the kernel lacks what the shim needs jobs run without it, and the log says so."""
    worker = Daemon(tmp_path, twistd=NO_CLOSE_RANGE)
    try:
        assert "Jobs run without the shim, and end with the worker: the shim has ended as soon" in worker.log()
        assert worker.raw(worker.bash("echo out")) == b"out\n"
        assert "close_range" in (tmp_path / "state" / "shim.log").read_text()
        assert worker.stop() == 0
    finally:
        worker.close()


def test_no_shim_can_run_and_one_is_needed(tmp_path: Path) -> None:
    """There a worker whose configuration asks for what only the shim does, does not start."""
    config = tmp_path / "worker.toml"
    config.write_text('[grpc_server]\naddr = "127.0.0.1:0"\n[jobs]\nat_stop = "leave"\n')
    assert "and jobs.at_stop needs it" in cannot_start(config, NO_CLOSE_RANGE)
