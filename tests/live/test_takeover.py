"""
A worker goes, by SIGKILL, by a handover or because it leaves its jobs when it stops; the next one goes on with
them.
"""

from __future__ import annotations

import hashlib
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from tests.support.daemon import LIMIT, Daemon, wait_until
from tests.support.hanging import exec_that_waits
from txworker.linux.procfs import ProcessTable
from txworker.pb import worker_pb2 as pb

ADaemon = Callable[..., Daemon]
Again = Callable[..., Daemon]


@pytest.fixture
def again() -> Iterator[Again]:
    """Starts a worker in the place of one that is gone."""
    made: list[Daemon] = []

    def make(before: Daemon, settings: str | None = None) -> Daemon:
        made.append(Daemon(before.place, before.settings if settings is None else settings))
        return made[-1]

    yield make
    for worker in reversed(made):  # or the newest would start another shim in place of the one that is ended
        worker.close()


def until(name: str) -> str:
    """A piece of a script that waits for a file."""
    return f"until [ -e {name} ]; do sleep 0.02; done"


def _holds(file: Path, size: int) -> bool:
    return file.stat().st_size > size


def _ended(pid: int) -> bool:
    return not runs(pid)


def _reaped(pid: int) -> bool:
    return ProcessTable().read(pid) is None


def runs(pid: int) -> bool:
    process = ProcessTable().read(pid)
    return process is not None and not process.zombie


def test_killed(a_daemon: ADaemon, again: Again) -> None:
    """
    A job runs on: the same process, the same record, its output without a gap while no worker was there, and its own
    exit code in the end. A viewer that comes back by offset misses nothing.
    """
    worker = a_daemon()
    script = f"for i in 1 2 3; do echo $i; {until('go-$i')}; done; echo last >&2; exit 7"
    job_id = worker.bash(script, separateStderr=True, stdin=b"unused", labels={"a": "b"})
    wait_until(lambda: worker.query(job_id).job.outputBytes == 2)
    before = worker.query(job_id).job
    worker.stop(signal.SIGKILL)
    (worker.place / "go-1").touch()
    wait_until(lambda: (worker.output / f"{job_id}.out").read_bytes() == b"1\n2\n")  # by the shim
    after = again(worker)
    job = after.query(job_id).job
    assert job.takeovers == 1
    job.outputBytes, job.takeovers = before.outputBytes, 0
    assert job == before
    stream = after.stub.StreamJob(pb.StreamJobReq(jobID=job_id, raw=True, offset=2), timeout=LIMIT)
    (worker.place / "go-2").touch()
    (worker.place / "go-3").touch()
    assert b"".join(message.data for message in stream) == b"2\n3\n"
    ended = after.end(job_id).job
    assert (ended.state, ended.exitCode, after.raw(job_id, stderr=True)) == (pb.JOB_STATE_FAILED, 7, b"last\n")


def test_stdin_goes_on(a_daemon: ADaemon, again: Again) -> None:
    """A job that reads its stdin while no worker is there gets all of it."""
    worker = a_daemon()
    stdin = os.urandom(4_000_000)
    script = f"head -c 100000 >first; echo read; {until('go')}; cat first - | sha256sum; touch ended"
    job_id = worker.bash(script, stdin=stdin)
    wait_until(lambda: worker.query(job_id).job.outputBytes == 5)
    worker.stop(signal.SIGKILL)
    (worker.place / "go").touch()
    wait_until((worker.place / "ended").exists)
    assert again(worker).raw(job_id).split()[1].decode() == hashlib.sha256(stdin).hexdigest()


def test_ended_meanwhile(a_daemon: ADaemon, again: Again) -> None:
    """Ends that came while no worker was there are told as they were: code, signal, usage, time, leftovers ended."""
    worker = a_daemon()
    burn = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done"
    code = worker.bash(f"{until('go')}; {burn}; echo done; exit 5")
    killed = worker.bash(f"{until('go')}; kill -USR1 $$")
    leaves = worker.bash(f"{until('go')}; setsid sleep 1000 & {until('go')}; exit 0")
    pids = [worker.query(job_id).job.pid for job_id in (code, killed, leaves)]
    worker.stop(signal.SIGKILL)
    (worker.place / "go").touch()
    wait_until(lambda: not any(map(runs, pids)))
    next_at = time.time() + 1.0
    wait_until(lambda: time.time() >= next_at)
    after = again(worker)
    jobs = [after.end(job_id).job for job_id in (code, killed, leaves)]
    assert [(job.state, job.exitCode, job.signal) for job in jobs] == [
        (pb.JOB_STATE_FAILED, 5, 0),
        (pb.JOB_STATE_FAILED, 0, signal.SIGUSR1),
        (pb.JOB_STATE_SUCCEEDED, 0, 0),
    ]
    assert jobs[0].userCPU.ToMilliseconds() > 10
    assert all(job.finishedAt.ToMicroseconds() / 1e6 < next_at for job in jobs)
    assert jobs[2].leftoversEnded >= 1
    assert after.raw(code) == b"done\n"


@pytest.mark.slow
def test_time_limits(a_daemon: ADaemon, again: Again) -> None:
    """
    Limits count from where they began, and the shim enforces them alone: one that comes due while no worker is there
    ends its job then, TERM first and KILL after the grace period; one that comes due later is the next worker's.
    """
    worker = a_daemon("[jobs]\nstop_grace_seconds = 0.3\n")
    timed = worker.bash("exec sleep 1000", timeout={"nanos": 900_000_000})
    quiet = worker.bash("echo once; exec sleep 1000", quietTimeout={"nanos": 900_000_000})
    stubborn = worker.bash("trap '' TERM; echo; while :; do sleep 0.05; done", timeout={"nanos": 900_000_000})
    later = worker.bash("exec sleep 1000", timeout={"seconds": 3})
    wait_until(lambda: worker.query(stubborn).job.outputBytes)
    pids = [worker.query(job_id).job.pid for job_id in (timed, quiet, stubborn)]
    worker.stop(signal.SIGKILL)
    wait_until(lambda: not any(map(runs, pids)))
    after = again(worker)
    ends = [after.end(job_id).job for job_id in (timed, quiet, stubborn, later)]
    assert {job.state for job in ends} == {pb.JOB_STATE_TIMED_OUT}
    assert [job.signal for job in ends] == [signal.SIGTERM, signal.SIGTERM, signal.SIGKILL, signal.SIGTERM]
    assert ends[0].errorText == "timed out after 0.9 s: signal: terminated"
    assert ends[1].errorText.startswith("no output for 0.9 s")
    seconds = (ends[3].finishedAt.ToMilliseconds() - ends[3].startedAt.ToMilliseconds()) / 1000
    assert 2.8 < seconds < 7


@pytest.mark.slow
def test_output_in_time(a_daemon: ADaemon, again: Again) -> None:
    """A job that prints in time lives on, longer than its quietTimeout, over workers that are killed."""
    worker = a_daemon()
    script = "until [ -e go ]; do echo; sleep 0.1; done; exit 5"
    job_id = worker.bash(script, quietTimeout={"seconds": 2})
    for printed in (30, 60):
        wait_until(partial(lambda worker, printed: worker.query(job_id).job.outputBytes > printed, worker, printed))
        worker.stop(signal.SIGKILL)
        wait_until(partial(_holds, worker.output / f"{job_id}.out", printed + 10))
        worker = again(worker)
    wait_until(lambda: worker.query(job_id).job.outputBytes > 90)
    (worker.place / "go").touch()
    assert worker.end(job_id).job.exitCode == 5


@pytest.mark.slow
def test_stop_under_way(a_daemon: ADaemon, again: Again) -> None:
    """A stop that was begun goes on: KILL comes when the grace period is over, with a worker or without."""
    worker = a_daemon()
    stubborn = "trap 'echo term' TERM; echo; while :; do sleep 0.02; done"
    short, long = worker.bash(stubborn), worker.bash(stubborn)
    wait_until(lambda: worker.query(short).job.outputBytes and worker.query(long).job.outputBytes)
    worker.stub.StopJob(pb.StopJobReq(jobID=short, grace=Duration(nanos=500_000_000)), timeout=LIMIT)
    worker.stub.StopJob(pb.StopJobReq(jobID=long, grace=Duration(seconds=8)), timeout=LIMIT)
    pids = [worker.query(job_id).job.pid for job_id in (short, long)]
    wait_until(lambda: b"term" in worker.raw(long, noFollow=True))
    worker.stop(signal.SIGKILL)
    wait_until(lambda: not runs(pids[0]))
    after = again(worker)
    assert after.query(long).job.state == pb.JOB_STATE_STOPPING
    ends = [after.end(job_id).job for job_id in (short, long)]
    assert [(job.state, job.signal) for job in ends] == [(pb.JOB_STATE_STOPPED, signal.SIGKILL)] * 2


@pytest.mark.parametrize(("kills", "blocks"), [(1, 1500), pytest.param(5, 6000, marks=pytest.mark.slow)])
def test_pours_through_kills(a_daemon: ADaemon, again: Again, kills: int, blocks: int) -> None:
    """A job that pours is never blocked for long and loses nothing: its output is what it printed, to the byte."""
    worker = a_daemon()
    program = (
        "import hashlib, os, random, time\n"
        "block, sha, longest, last = random.randbytes(65536), hashlib.sha256(), 0.0, time.monotonic()\n"
        "for number in range(int(os.environ['BLOCKS'])):\n"
        "    data = number.to_bytes(8, 'big') + block\n"
        "    sha.update(data); rest = memoryview(data)\n"
        "    while rest: rest = rest[os.write(1, rest):]\n"
        "    now = time.monotonic(); longest, last = max(longest, now - last), now\n"
        "os.write(2, f'{sha.hexdigest()} {longest}'.encode())\n"
    )
    job_id = worker.start(sys.executable, "-c", program, separateStderr=True, env={"BLOCKS": str(blocks)})
    current = worker
    for number in range(1, kills + 1):
        wait_until(partial(_holds, worker.output / f"{job_id}.out", number * 50_000_000))
        current.stop(signal.SIGKILL)
        current = again(current)
    end = current.end(job_id).job
    assert end.state == pb.JOB_STATE_SUCCEEDED
    digest, longest = current.raw(job_id, stderr=True).decode().split()
    assert hashlib.sha256((worker.output / f"{job_id}.out").read_bytes()).hexdigest() == digest
    assert float(longest) < 5  # it waits for a CPU here, never for a worker


@pytest.mark.parametrize(
    "how", ["handover", *(pytest.param(how, marks=pytest.mark.slow) for how in (signal.SIGUSR2, "leave"))]
)
def test_left(a_daemon: ADaemon, again: Again, how: signal.Signals | str) -> None:
    """
    A handover, or at_stop = "leave", leaves the jobs once: the worker ends with 0, streams end UNAVAILABLE and not as
    if the job were done, the log says how many were left; and an ordinary stop of the next worker ends them.
    """
    settings = '[jobs]\nat_stop = "leave"\n' if how == "leave" else ""
    worker = a_daemon(settings)
    jobs = [worker.bash(f"echo {number}; exec sleep 1000") for number in range(5)]
    wait_until(lambda: all(worker.query(job_id).job.outputBytes for job_id in jobs))
    stream = worker.stub.StreamJob(pb.StreamJobReq(jobID=jobs[0]), timeout=LIMIT)
    next(stream)
    if how == "handover":
        program = [str(Path(sys.executable).with_name("txworker")), "handover", "--wait"]
        words = [*program, "--state-directory", str(worker.place / "state")]
        said = subprocess.run(words, capture_output=True, text=True, timeout=LIMIT, check=True).stdout
        assert said == "handing over: 5 jobs are left to the next worker\n"
        assert worker.process.wait(LIMIT) == 0
    else:
        assert worker.stop(signal.SIGTERM if how == "leave" else signal.Signals(int(how))) == 0
    with pytest.raises(grpc.RpcError) as cut:
        next(stream)
    assert cut.value.code() == grpc.StatusCode.UNAVAILABLE
    assert "5 jobs are left to the next worker" in worker.log()
    after = again(worker, "")
    assert {after.query(job_id).job.state for job_id in jobs} == {pb.JOB_STATE_RUNNING}
    pids = [after.query(job_id).job.pid for job_id in jobs]
    assert after.stop() == 0
    assert not any(map(runs, pids))


def test_unattended(a_daemon: ADaemon, again: Again) -> None:
    """After unattended_seconds without a worker the shim ends every job; the next worker says why."""
    worker = a_daemon("[jobs]\nunattended_seconds = 0.5\nstop_grace_seconds = 0.2\n")
    job_id = worker.bash("exec sleep 1000")
    pid = worker.query(job_id).job.pid
    worker.stop(signal.SIGKILL)
    wait_until(lambda: not runs(pid))
    after = again(worker)
    job = after.end(job_id).job
    assert (job.state, job.errorText) == (
        pb.JOB_STATE_STOPPED,
        "no worker for too long (jobs.unattended_seconds): signal: terminated",
    )


@pytest.mark.slow
def test_stopped_shim(a_daemon: ADaemon, again: Again) -> None:
    """A worker that waits while a signal has stopped the shim takes the jobs over, after unattended_seconds as well."""
    worker = a_daemon("[jobs]\nunattended_seconds = 3\n")
    job_id, shim = worker.bash("while echo line; do sleep 0.05; done"), worker.shim()
    worker.stop(signal.SIGKILL)
    file = worker.output / f"{job_id}.out"
    wait_until(partial(_holds, file, file.stat().st_size))  # so the shim knows that the worker has gone
    os.kill(shim, signal.SIGSTOP)
    goes_on = threading.Timer(6.0, os.kill, (shim, signal.SIGCONT))
    goes_on.start()
    try:
        assert again(worker).query(job_id).job.state == pb.JOB_STATE_RUNNING
    finally:
        goes_on.join()


@pytest.mark.slow
def test_workers_that_fail(a_daemon: ADaemon) -> None:
    """Workers that end before they serve, as with an address that another program has, do not put that off."""
    worker = a_daemon("[jobs]\nunattended_seconds = 4\nstop_grace_seconds = 0.2\n")
    pid = worker.query(worker.bash("exec sleep 1000")).job.pid
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        worker.config.write_text(worker.config.read_text().replace("127.0.0.1:0", address))
        worker.stop(signal.SIGKILL)
        words = [*worker.twistd, "-n", "--pidfile=", "worker", "--config", str(worker.config)]
        until = time.monotonic() + LIMIT
        while runs(pid):
            failed = subprocess.run(words, cwd=worker.place, capture_output=True, text=True, timeout=LIMIT, check=False)
            assert "grpc_server.addr" in failed.stdout + failed.stderr
            assert time.monotonic() < until


def test_shim_killed(a_daemon: ADaemon) -> None:
    """
    When the shim is killed its jobs are ended, with all they left, and LOST with a sentence that says so; what they
    printed is kept; the worker starts another shim and goes on serving.
    """
    worker = a_daemon()
    job_id = worker.bash("echo kept; setsid sleep 1000 & echo too; exec sleep 1000")
    wait_until(lambda: worker.query(job_id).job.outputBytes == 9)
    pid, first = worker.query(job_id).job.pid, worker.shim()
    os.kill(first, signal.SIGKILL)
    answer = wait_until(lambda: (now := worker.query(job_id)).done and now)
    assert answer.job.state == pb.JOB_STATE_LOST
    assert answer.errorText.startswith(f"lost: the shim (pid {first})")
    assert (worker.raw(job_id), runs(pid)) == (b"kept\ntoo\n", False)
    assert worker.end(worker.bash("exit 3")).job.exitCode == 3
    assert worker.shim() != first
    assert worker.stop() == 0


@pytest.mark.slow
def test_no_descriptors(a_daemon: ADaemon, again: Again) -> None:
    """A shim that has as many jobs as it has descriptors for refuses more; the next worker takes them all over."""
    worker = a_daemon()
    shim = worker.shim()
    most = max(map(int, os.listdir(f"/proc/{shim}/fd"))) + 60
    resource.prlimit(shim, resource.RLIMIT_NOFILE, (most, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    job_ids: list[str] = []
    with pytest.raises(grpc.RpcError, match="no file descriptors left"):
        job_ids.extend(worker.start("cat", tty=True, feed=True) for _ in range(60))
    assert job_ids
    worker.stop(signal.SIGKILL)
    worker = again(worker)
    for job_id in job_ids:
        worker.stub.FeedJob(iter([pb.FeedJobReq(jobID=job_id, data=b"x\n", end=True)]), timeout=LIMIT)
        assert worker.end(job_id).job.state == pb.JOB_STATE_SUCCEEDED
    assert worker.raw(worker.start("echo", "again")) == b"again\n"


def test_shim_ends(a_daemon: ADaemon) -> None:
    """A shim without jobs ends with its worker, however that ends."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        worker = a_daemon()
        job_pid = worker.end(worker.bash("true")).job.pid
        wait_until(partial(_reaped, job_pid))  # or the shim still has it
        pid = worker.shim()
        worker.stop(number)
        wait_until(partial(_ended, pid))


@pytest.mark.slow
def test_hanging_start(a_daemon: ADaemon, again: Again, tmp_path: Path) -> None:
    """
    An exec that hangs holds up launches alone: ends, output, stops and a takeover go on; then it is not told
    twice.
    """
    worker = a_daemon()
    runs_on, ends = worker.bash("exec sleep 1000"), worker.bash(f"{until('go')}; echo out")
    with exec_that_waits(tmp_path, "exec sleep 1000") as (program, tried):
        hangs = threading.Thread(target=_refused, args=(worker, str(program)), daemon=True)
        hangs.start()
        assert tried.wait(LIMIT)
        (worker.place / "go").touch()
        assert (worker.end(ends).job.state, worker.raw(ends)) == (pb.JOB_STATE_SUCCEEDED, b"out\n")
        worker.stop(signal.SIGKILL)
        hangs.join(LIMIT)
        after = again(worker)
        assert after.query(runs_on).job.state == pb.JOB_STATE_RUNNING
        after.stub.StopJob(pb.StopJobReq(jobID=runs_on), timeout=LIMIT)
        assert after.end(runs_on).job.state == pb.JOB_STATE_STOPPED
    assert after.end(after.bash("true")).job.state == pb.JOB_STATE_SUCCEEDED
    states = {job.state for job in after.stub.ListJobs(pb.ListJobsReq(), timeout=LIMIT).jobs}
    assert pb.JOB_STATE_RUNNING not in states


@pytest.mark.parametrize("jobs", ["", "[jobs]\nuse_cgroups = false\n"])
def test_shim_killed_during_a_start(a_daemon: ADaemon, tmp_path: Path, jobs: str) -> None:
    """A start whose shim is killed is refused, and no process of it runs, even if its exec ends later."""
    worker = a_daemon(jobs)
    with exec_that_waits(tmp_path, f"echo >>{tmp_path}/ran; exec sleep 1000") as (program, tried):
        call = worker.stub.StartJob.future(pb.StartJobReq(path=str(program)), timeout=LIMIT)
        assert tried.wait(LIMIT)
        shim = worker.shim()
        started = ProcessTable().children(shim)
        os.kill(shim, signal.SIGKILL)
        with pytest.raises(grpc.RpcError) as caught:
            call.result()
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "the shim has ended" in str(caught.value.details())
        wait_until(lambda: not any(map(runs, started)))
    assert len(started) == 1
    assert worker.end(worker.bash("exit 3")).job.exitCode == 3
    assert not (tmp_path / "ran").exists()


def _refused(worker: Daemon, path: str) -> None:
    with pytest.raises(grpc.RpcError):
        worker.start(path)
