"""The worker is killed at moments that a random kill seldom meets: between an order and its answer, in a takeover."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.live.test_takeover import Again, again, runs
from tests.support.daemon import LIMIT, Daemon, wait_until
from tests.support.hanging import exec_that_waits
from tests.support.requested import is_requested
from txworker.jobs import JobState
from txworker.linux.procfs import ProcessTable
from txworker.pb import worker_pb2 as pb
from txworker.shim.messages import ENDED_BIT, PROTOCOL, SOCKET_NAME, Channel

__all__ = ["again"]  # a fixture

ADaemon = Callable[..., Daemon]
SCRIPT = 'echo "$TXWORKER_JOB_ID" >>ran; exec sleep 1000'


def _stands_still(pid: int) -> bool:
    """Each of its threads does."""
    stats = Path(f"/proc/{pid}/task").glob("*/stat")
    return all(stat.read_text().rpartition(")")[2].split()[0] == "T" for stat in stats)


@contextmanager
def _stopped(pid: int) -> Iterator[None]:
    """A process that stands still meanwhile."""
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_until(lambda: _stands_still(pid))
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_stopped_shim(a_daemon: ADaemon) -> None:
    """
    A shim that stands still is told of, with what to do. An order that it has already is not told as one that was not
    carried out, because it is when the shim goes on.
    """
    worker = a_daemon()
    shim = worker.shim()
    with _stopped(shim):
        wait_until(lambda: f"No new jobs: the shim (pid {shim}) was stopped by a signal" in worker.log())
        call = worker.stub.StartJob.future(pb.StartJobReq(command="true"), timeout=LIMIT)
        wait_until(lambda: is_requested(shim, "spawn"))
        call.cancel()
        wait_until(lambda: "was not answered: the call ended while the worker worked on it" in worker.log())
    wait_until(lambda: [job.state for job in _jobs(worker)] == [pb.JOB_STATE_SUCCEEDED])
    wait_until(lambda: f"The shim (pid {shim}) goes on." in worker.log())


def _jobs(worker: Daemon) -> list[pb.Job]:
    return list(worker.stub.ListJobs(pb.ListJobsReq(), timeout=LIMIT).jobs)


def _is_stored(worker: Daemon) -> bool:
    """An order is written down before its process starts; it is shown only then."""
    path = f"file:{worker.place}/state/jobs.sqlite3?mode=ro"
    with closing(sqlite3.connect(path, uri=True)) as store:
        return bool(store.execute("SELECT count(*) FROM jobs").fetchone()[0])


def _check_once(worker: Daemon, request: pb.StartJobReq) -> None:
    """The job was started exactly once, and its request id brings it back."""
    (job,) = _jobs(worker)
    assert (job.state, runs(job.pid)) == (pb.JOB_STATE_RUNNING, True), job
    ran = worker.place / "ran"
    wait_until(lambda: ran.exists() and ran.read_text())
    assert worker.stub.StartJob(request, timeout=LIMIT).jobID == job.jobID
    assert ran.read_text().split() == [job.jobID]
    assert worker.stop() == 0
    assert not runs(job.pid)
    assert ran.read_text().split() == [job.jobID]


def test_before_the_shim_reads_the_order(a_daemon: ADaemon, again: Again) -> None:
    """The order is in the socket when its sender dies: the shim carries it out, and the next worker finds the job."""
    worker = a_daemon()
    request = pb.StartJobReq(command="bash", args=["-c", SCRIPT], path="", requestID="once")
    shim = worker.shim()
    with _stopped(shim):
        call = worker.stub.StartJob.future(request, timeout=LIMIT)
        wait_until(lambda: is_requested(shim, "spawn"))
        assert _is_stored(worker)
        worker.stop(signal.SIGKILL)
    with pytest.raises(grpc.RpcError):
        call.result()
    _check_once(again(worker), request)


def test_before_the_shim_gets_the_order(a_daemon: ADaemon, again: Again) -> None:
    """
    An order that was written down only: the shim had no job, so it has ended by itself and told so, and the job was
    never started. If the shim was killed, it may have had the job, which is lost.
    """
    worker = a_daemon()
    job = worker.end(worker.start("true")).job
    wait_until(lambda: ProcessTable().read(job.pid) is None)  # or the shim still has it
    socket_file = worker.place / "state" / SOCKET_NAME
    worker.stop(signal.SIGKILL)
    wait_until(lambda: socket_file.stat().st_mode & ENDED_BIT)
    _write_as_new(worker)
    after = again(worker)
    assert _jobs(after) == []
    assert f"Job {job.jobID} was never started" in after.log()
    job_id = after.end(after.start("true")).job.jobID
    with _stopped(after.process.pid):  # or it would start another shim
        os.kill(shim := after.shim(), signal.SIGKILL)
        wait_until(lambda: not runs(shim))
        after.process.kill()
    after.process.wait()
    _write_as_new(worker)
    assert [(job.jobID, job.state) for job in _jobs(again(worker))] == [(job_id, pb.JOB_STATE_LOST)]


def _write_as_new(worker: Daemon) -> None:
    """The record of its job is as it was before the process was started."""
    columns = ["started_at", "finished_at", "pid", "started_ticks", "exit_code"]
    unset = ", ".join(f"{column} = NULL" for column in columns)
    with closing(sqlite3.connect(worker.place / "state" / "jobs.sqlite3")) as store, store:
        store.execute(f"UPDATE jobs SET state = {JobState.PENDING.value}, {unset}")


def test_before_the_worker_reads_the_answer(a_daemon: ADaemon, again: Again, tmp_path: Path) -> None:
    """The job runs, and its worker dies before it hears so: the next one finds it."""
    worker = a_daemon()
    with exec_that_waits(tmp_path, SCRIPT) as (program, tried):
        request = pb.StartJobReq(path=str(program), requestID="once")
        call = worker.stub.StartJob.future(request, timeout=LIMIT)
        assert tried.wait(LIMIT)
        worker.process.send_signal(signal.SIGSTOP)
        wait_until(lambda: _stands_still(worker.process.pid))
    wait_until((worker.place / "ran").exists)
    worker.stop(signal.SIGKILL)
    with pytest.raises(grpc.RpcError):
        call.result()
    _check_once(again(worker), request)


@pytest.mark.slow
def test_start_that_hangs_in_a_takeover(a_daemon: ADaemon, again: Again, tmp_path: Path) -> None:
    """The next worker does not wait for it, and says that the job did not start: so it is ended when it does."""
    worker = a_daemon()
    with exec_that_waits(tmp_path, SCRIPT) as (program, tried):
        call = worker.stub.StartJob.future(pb.StartJobReq(path=str(program)), timeout=LIMIT)
        assert tried.wait(LIMIT)
        worker.stop(signal.SIGKILL)
        with pytest.raises(grpc.RpcError):
            call.result()
        after = again(worker)
        assert _jobs(after) == []
    wait_until(lambda: " started after all, as pid " in after.log())
    pid = int(after.log().partition(" started after all, as pid ")[2].partition(",")[0])
    wait_until(lambda: not runs(pid))
    assert after.end(after.start("echo", "next")).job.state == pb.JOB_STATE_SUCCEEDED


@pytest.mark.slow
def test_while_it_asks_the_shim(a_daemon: ADaemon, again: Again) -> None:
    """Killed in the takeover, twice in a row, when it has the lease and waits for the shim's first word."""
    worker = a_daemon()
    ids = [worker.bash("i=0; while [ ! -e go ]; do echo $((i++)); sleep 0.01; done; exit 3") for _ in range(5)]
    wait_until(lambda: all(worker.query(job_id).job.outputBytes for job_id in ids))
    shim = worker.shim()
    worker.stop(signal.SIGKILL)
    with _stopped(shim):
        for _ in range(2):
            starting = subprocess.Popen(
                [*worker.twistd, "-n", "--pidfile=", "worker", "--config", str(worker.config)],
                cwd=worker.place,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            wait_until(lambda pid=starting.pid: _waits_for_shim(worker.place, pid))  # type: ignore[misc]
            starting.kill()
            starting.wait()
    _check_lines(again(worker), ids)


@pytest.mark.slow
def test_between_two_lots(a_daemon: ADaemon, again: Again) -> None:
    """Killed in the takeover, twice in a row, when it has been given some of the jobs, and their pipes, and not all."""
    worker = a_daemon()
    ids = [worker.bash("i=0; while [ ! -e go ]; do echo $((i++)); sleep 0.1; done; exit 3") for _ in range(70)]
    worker.stop(signal.SIGKILL)
    for answers in (0, 1):
        _take_over_in_part(worker.place, answers)
    _check_lines(again(worker), ids)


def _waits_for_shim(place: Path, pid: int) -> bool:
    """It has the lease, and nothing but a poll of the shim's connection keeps it."""
    with suppress(FileNotFoundError):  # while it opens and closes
        call = Path(f"/proc/{pid}/wchan").read_text()
        links = [os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()]
        waits = "poll" in call and any(link.startswith("socket:") for link in links)
        return waits and str(place / "state" / "worker.lock") in links
    return False


def _take_over_in_part(place: Path, answers: int) -> None:
    """What a worker does until it is killed there: after so many answers to a lot of jobs."""
    state, output = (os.open(place / name, os.O_RDONLY | os.O_DIRECTORY) for name in ("state", "output"))
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.connect(f"/proc/self/fd/{state}/{SOCKET_NAME}")
    channel = Channel(connection)
    defaults: dict[str, Any] = {
        "environment": dict(os.environ),
        "umask": 0o022,
        "descriptor_limit": [1024, 4096],
        "unattended_seconds": 0.0,
    }
    hello = {"type": "hello", "protocol": PROTOCOL, "defaults": defaults}
    channel.send(hello, [output])
    for _ in range(answers + 1):
        while True:
            message, descriptors = channel.receive()
            for fd in descriptors:
                os.close(fd)
            if message["type"] in ("lot", "ready"):
                break
        if message["type"] == "lot" and answers:
            channel.send({"type": "more"})
    channel.close()
    os.close(state)
    os.close(output)


def _check_lines(worker: Daemon, ids: list[str]) -> None:
    """All run; then they end as they do, and what they printed is there, every line once."""
    assert {worker.query(job_id).job.state for job_id in ids} == {pb.JOB_STATE_RUNNING}
    (worker.place / "go").touch()
    for job_id in ids:
        assert worker.end(job_id).job.exitCode == 3
        printed = worker.raw(job_id).split()
        assert printed == [str(number).encode() for number in range(len(printed))]
