"""A disk that fills up while jobs run and has room again later: a real one, small, in memory."""

from __future__ import annotations

import contextlib
import fcntl
import json
import signal
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.support.daemon import LIMIT, Daemon, cannot_start, wait_until
from txworker.linux.procfs import ProcessTable
from txworker.pb import worker_pb2 as pb

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
PRINTED = 3 * 1024 * 1024
"""More than the whole disk holds."""


class Disk:
    """A small file system of its own."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self._ballast = place / "ballast"

    def fill(self) -> None:
        """From now on there is no room for a single block."""
        with self._ballast.open("ab", buffering=0) as ballast:
            for size in (64 * 1024, 1):
                with contextlib.suppress(OSError):
                    while ballast.write(bytes(size)) == size:
                        pass

    def free(self) -> None:
        """There is room again."""
        self._ballast.unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.strip()}")
    try:
        yield Disk(place)
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.fixture
def with_store(disk: Disk, a_daemon: Callable[..., Daemon]) -> Callable[[str], Daemon]:
    """Makes a worker whose store is on that disk, and whose output is not."""
    return lambda durability: a_daemon(
        f'[jobs]\nstate_directory = "{disk.place}/state"\ndurability = "{durability}"\nstop_grace_seconds = 0.5'
    )


def health(worker: Daemon) -> int:
    status: int = health_pb2_grpc.HealthStub(worker.channel).Check(health_pb2.HealthCheckRequest()).status
    return status


def refusal(worker: Daemon) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as refused:
        worker.bash("true")
    return refused.value


def waiting(worker: Daemon, name: str, then: str = "exit 3") -> str:
    """A job that has begun, and goes on when the file <name> is there; its id."""
    place = worker.place / name
    job_id = worker.bash(f"echo begin; while [ ! -e {place} ]; do sleep 0.02; done; {then}")
    wait_until(lambda: worker.query(job_id).job.outputBytes >= len("begin\n"))
    return job_id


def printed(worker: Daemon, job_id: str, line: str) -> None:
    """Waits until the job's output has that line."""
    wait_until(lambda: f"{line}\n".encode() in worker.raw(job_id, noFollow=True))


def unread(pid: int) -> int:
    """How many bytes are in the pipe that a job prints to."""
    with open(f"/proc/{pid}/fd/1", "rb", buffering=0) as pipe:
        return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)


def gone(pid: int) -> bool:
    """It has exited; the shim may hold the zombie until the end is written."""
    process = ProcessTable().read(pid)
    return process is None or process.zombie


def state(worker: Daemon, job_id: str) -> int:
    return worker.query(job_id).job.state


def test_output(disk: Disk, a_daemon: Callable[..., Daemon]) -> None:
    """
    The job runs on, what is lost is counted to the byte and marked where it was, the record says so, and a viewer who
    looked on all the time has seen what is in the file. The store is elsewhere, and knows of no trouble.
    """
    worker = a_daemon(f'[jobs]\noutput_directory = "{disk.place}/output"\nstate_directory = "state"')
    lost, end = worker.place / "lost", worker.place / "end"
    script = f"head -c {PRINTED} /dev/zero; touch {lost}; while [ ! -e {end} ]; do sleep 0.02; done; echo end"
    job_id = waiting(worker, "begin", script)
    viewer = worker.stub.StreamJob(pb.StreamJobReq(jobID=job_id, raw=True), timeout=LIMIT)
    disk.fill()
    (worker.place / "begin").touch()
    wait_until(lost.exists)
    assert (health(worker), state(worker, job_id)) == (SERVING, pb.JOB_STATE_RUNNING)
    pid = worker.query(job_id).job.pid
    wait_until(lambda: unread(pid) == 0)
    worker.end(worker.start("true"))  # and what was read before that was lost
    disk.free()
    end.touch()
    seen = b"".join(message.data for message in viewer)
    job = worker.query(job_id).job
    kept = seen.count(b"\0")
    line = f"\n[{PRINTED - kept} bytes of output were lost here: No space left on device]\n"
    assert seen == b"begin\n" + bytes(kept) + line.encode() + b"end\n"
    assert (job.state, job.outputTruncated, job.outputBytes) == (pb.JOB_STATE_SUCCEEDED, True, len(seen))
    assert worker.raw(job_id) == seen


@pytest.mark.slow
def test_output_of_killed_workers(disk: Disk, a_daemon: Callable[..., Daemon]) -> None:
    """Later workers know that output was lost, while the disk is full and when it has room; one line tells of it."""
    worker = a_daemon(f'[jobs]\noutput_directory = "{disk.place}/output"\nstate_directory = "state"')
    lost, more, end = (worker.place / name for name in ("lost", "more", "end"))
    then = f"while [ ! -e {more} ]; do sleep 0.02; done; echo more; while [ ! -e {end} ]; do sleep 0.02; done; echo end"
    job_id = waiting(worker, "begin", f"head -c {PRINTED} /dev/zero; touch {lost}; {then}")
    disk.fill()
    (worker.place / "begin").touch()
    wait_until(lost.exists)
    wait_until(lambda: worker.query(job_id).job.outputTruncated)
    worker.stop(signal.SIGKILL)
    with contextlib.ExitStack() as stack:
        for go_on in (more, end):
            worker = Daemon(worker.place, worker.settings)
            stack.callback(worker.close)
            assert worker.query(job_id).job.outputTruncated
            disk.free()
            go_on.touch()
            printed(worker, job_id, go_on.name)
            worker.stop(signal.SIGKILL)
            disk.fill()
        worker = Daemon(worker.place, worker.settings)
        stack.callback(worker.close)
        assert worker.end(job_id).job.outputTruncated
        assert worker.raw(job_id).count(b"bytes of output were lost here: the disk refused them]") == 1


@pytest.mark.slow
def test_output_without_worker(disk: Disk, a_daemon: Callable[..., Daemon]) -> None:
    """While no worker is there, too, what is lost is marked where it was."""
    worker = a_daemon(f'[jobs]\noutput_directory = "{disk.place}/output"\nstate_directory = "state"')
    lost, end, over = (worker.place / name for name in ("lost", "end", "over"))
    then = f"while [ ! -e {end} ]; do sleep 0.02; done; echo end; touch {over}; exec sleep 1000"
    job_id = waiting(worker, "begin", f"head -c {PRINTED} /dev/zero; touch {lost}; {then}")
    worker.stop(signal.SIGKILL)
    disk.fill()
    (worker.place / "begin").touch()
    wait_until(lost.exists)
    disk.free()
    end.touch()
    wait_until(over.exists)
    with contextlib.closing(Daemon(worker.place, worker.settings)) as worker:
        printed(worker, job_id, "end")
        assert worker.query(job_id).job.outputTruncated
        worker.stub.StopJob(pb.StopJobReq(jobID=job_id), timeout=LIMIT)
        seen = worker.raw(job_id)
        line = f"\n[at least {PRINTED - seen.count(bytes(1))} bytes of output were lost here: the disk refused them]\n"
        assert seen.lstrip(b"begin\n").lstrip(bytes(1)) == line.encode() + b"end\n"


@pytest.mark.parametrize("durability", ["process", pytest.param("machine", marks=pytest.mark.slow)])
def test_store(disk: Disk, with_store: Callable[[str], Daemon], durability: str) -> None:
    """
    No new jobs, with the reason, and NOT_SERVING; running jobs go on and can be stopped; the worker is seen to live;
    no end is told that is not written. With room again every end is written and told, and all is as before.
    """
    worker = with_store(durability)
    ends, stopped, runs = (waiting(worker, name) for name in ("ends", "stopped", "runs"))
    disk.fill()
    refused = refusal(worker)
    assert refused.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "the disk is full" in str(refused.details())
    wait_until(lambda: health(worker) == NOT_SERVING)
    alive_at = json.loads((disk.place / "state/worker.lock").read_bytes())["alive_at"]
    pids = [worker.query(job_id).job.pid for job_id in (ends, stopped)]
    (worker.place / "ends").touch()
    worker.stub.StopJob(pb.StopJobReq(jobID=stopped), timeout=LIMIT)
    wait_until(lambda: all(gone(pid) for pid in pids))
    wait_until(lambda: json.loads((disk.place / "state/worker.lock").read_bytes())["alive_at"] > alive_at)
    assert [worker.query(job_id).done for job_id in (ends, stopped, runs)] == [False] * 3
    disk.free()
    wait_until(lambda: health(worker) == SERVING)
    assert worker.end(ends).errorText == "exit status 3"
    assert worker.end(stopped).job.state == pb.JOB_STATE_STOPPED
    assert state(worker, runs) == pb.JOB_STATE_RUNNING
    assert worker.end(worker.bash("true")).job.state == pb.JOB_STATE_SUCCEEDED
    wait_until(lambda: "can be used again" in worker.log())
    assert worker.log().count("No new jobs until the store can be used again") == 1


@pytest.mark.slow
@pytest.mark.parametrize("durability", ["process", "machine"])
def test_stopped_while_full(disk: Disk, with_store: Callable[[str], Daemon], durability: str) -> None:
    """
    A worker that is stopped meanwhile ends every job and then itself, with status 0. The next one knows the end of
    each, of the shim if it could not be written; and what it printed.
    """
    worker = with_store(durability)
    done = worker.bash("echo whole; exit 2")
    worker.end(done)
    job_id = waiting(worker, "never")
    pid = worker.query(job_id).job.pid
    disk.fill()
    refusal(worker)
    assert worker.stop() == 0
    assert gone(pid)
    assert "Traceback" not in worker.log()
    disk.free()
    after = Daemon(worker.place, worker.settings)
    try:
        assert (after.query(done).errorText, after.raw(done)) == ("exit status 2", b"whole\n")
        assert after.end(job_id).job.state == pb.JOB_STATE_STOPPED
        assert after.raw(job_id) == b"begin\n"
    finally:
        after.close()


def test_killed_while_full(disk: Disk, with_store: Callable[[str], Daemon]) -> None:
    """One that is killed meanwhile has damaged nothing: with room again the next one knows every job."""
    worker = with_store("process")
    done = worker.bash("exit 2")
    worker.end(done)
    job_id = waiting(worker, "never")
    disk.fill()
    refusal(worker)
    worker.stop(signal.SIGKILL)
    disk.free()
    after = Daemon(worker.place, worker.settings)
    try:
        assert after.query(done).errorText == "exit status 2"
        assert (state(after, job_id), after.raw(job_id, noFollow=True)) == (pb.JOB_STATE_RUNNING, b"begin\n")
        assert "damaged" not in after.log()
    finally:
        after.close()


def test_full_from_the_beginning(disk: Disk, tmp_path: Path) -> None:
    """Without room for a store at all no worker starts; the sentence says where there is none."""
    config = tmp_path / "worker.toml"
    config.write_text(f'[grpc_server]\naddr = "127.0.0.1:0"\n[jobs]\nstate_directory = "{disk.place}/state"\n')
    disk.fill()
    assert str(disk.place) in cannot_start(config)
