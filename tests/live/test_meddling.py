"""Output files that others cut, delete or replace while the job runs: over the wire, as viewers and watchers see it."""

from __future__ import annotations

import os
import shutil
import sys
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.support.daemon import LIMIT, Daemon, wait_until
from txworker.pb import worker_pb2 as pb

ADaemon = Callable[..., Daemon]

BEFORE = b"what was there before\n"
SIZE = len(BEFORE)

FLOOD = """
import os, sys
block = b"0123456789abcde\\n" * 65536
for number in range(100):
    os.write(1, block)
    if number == 50:
        open(sys.argv[1], "w").close()
"""


def refused(call: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code(), str(caught.value.details())


def cut(path: Path) -> None:
    os.truncate(path, 0)


def cut_in_part(path: Path) -> None:
    os.truncate(path, 5)


def delete(path: Path) -> None:
    path.unlink()


def create_anew(path: Path) -> None:
    path.rename(f"{path}.1")
    path.touch()


def replace(path: Path) -> None:
    other = Path(f"{path}.new")
    other.write_bytes(b"another")
    other.rename(path)


MEDDLING = [(cut, "cut"), (cut_in_part, "cut"), (delete, "deleted"), (create_anew, "replaced"), (replace, "replaced")]
WHOLE: list[dict[str, Any]] = [{}, {"noFollow": True}, {"offset": SIZE - 3}]
"""Ways to ask for what is lost."""


class Waiting:
    """A job that has printed, and prints more when it is told to."""

    def __init__(self, daemon: Daemon, place: Path, **more: bool) -> None:
        self._bell = place / uuid.uuid4().hex
        os.mkfifo(self._bell)
        to = ">&2" if more.get("separateStderr") else ""
        self.daemon = daemon
        self.job_id = daemon.bash(f"printf '{BEFORE.decode()}' {to}; read < {self._bell}; echo after {to}", **more)
        self.path = daemon.output / f"{self.job_id}.{'err' if to else 'out'}"
        wait_until(lambda: self.path.stat().st_size == SIZE)

    def print_more(self) -> None:
        self._bell.write_text("\n")


def test_while_the_job_runs(daemon: Daemon, tmp_path: Path) -> None:
    """
    The record says it while the job runs; who wants what is lost is told so, with a status, and who wants the rest gets
    it with a line where it begins; at the end as well.
    """
    jobs = [Waiting(daemon, tmp_path) for _ in MEDDLING]
    for job, (meddle, _) in zip(jobs, MEDDLING, strict=True):
        meddle(job.path)
    for job in jobs:
        wait_until(lambda job=job: daemon.query(job.job_id).job.outputTruncated)  # type: ignore[misc]
        job.print_more()
    for job, (meddle, what) in zip(jobs, MEDDLING, strict=True):
        wait_until(lambda job=job: daemon.query(job.job_id).done)  # type: ignore[misc]
        assert_told(job, what, begin=5 if meddle is cut_in_part else 0)


def assert_told(job: Waiting, what: str, begin: int) -> None:
    """All who may want to know that these bytes are lost."""
    daemon, job_id = job.daemon, job.job_id
    rest = f"\n[{SIZE - begin} bytes of output were lost here: another program has {what} the file]\nafter\n".encode()
    record = daemon.query(job_id).job
    assert (record.outputTruncated, record.outputBytes) == (True, SIZE + len(rest))
    assert daemon.raw(job_id, offset=SIZE) == rest
    assert daemon.raw(job_id, tailLines=20) == rest
    for request in WHOLE:
        code, sentence = refused(lambda request=request: daemon.raw(job_id, **request))  # type: ignore[misc]
        assert code is grpc.StatusCode.DATA_LOSS
        assert f"another program has {what} its file; lost are the bytes from offset {begin} up to {SIZE}" in sentence
    (found,) = [line for line in daemon.log().splitlines() if f"Output of job {job_id} is lost" in line]
    assert f"{SIZE - begin} bytes from offset {begin} on: another program has {what} {job.path}." in found


def test_viewers_meanwhile(daemon: Daemon, tmp_path: Path) -> None:
    """One who comes then is told at once; one who has seen it all goes on with the line and what follows."""
    jobs = [Waiting(daemon, tmp_path) for _ in MEDDLING]
    followers = [daemon.stub.StreamJob(pb.StreamJobReq(jobID=job.job_id, raw=True), timeout=LIMIT) for job in jobs]
    for job, follower, (meddle, _) in zip(jobs, followers, MEDDLING, strict=True):
        assert next(follower).data == BEFORE
        meddle(job.path)
        for request in WHOLE:
            code, _ = refused(lambda job=job, request=request: daemon.raw(job.job_id, **request))  # type: ignore[misc]
            assert code is grpc.StatusCode.DATA_LOSS
    for job, follower in zip(jobs, followers, strict=True):
        wait_until(lambda job=job: daemon.query(job.job_id).job.outputTruncated)  # type: ignore[misc]
        job.print_more()
        rest = b"".join(message.data for message in follower)
        assert rest.startswith(b"\n[")
        assert rest.endswith(b"the file]\nafter\n")


def test_from_end(daemon: Daemon, tmp_path: Path) -> None:
    """One who comes then, and wants only what the job prints from now on, gets that, whatever became of the file."""
    jobs = [Waiting(daemon, tmp_path) for _ in MEDDLING]
    viewers = []
    for job, (meddle, _) in zip(jobs, MEDDLING, strict=True):
        meddle(job.path)
        assert daemon.raw(job.job_id, fromEnd=True, noFollow=True) == b""
        viewers.append(daemon.stub.StreamJob(pb.StreamJobReq(jobID=job.job_id, raw=True, fromEnd=True), timeout=LIMIT))
        job.print_more()
    for viewer in viewers:
        assert b"".join(message.data for message in viewer)[-6:] in (b"after\n", b"")  # it may have come too late


def test_stderr(daemon: Daemon, tmp_path: Path) -> None:
    """The separate stderr likewise; stdout is as it was."""
    job = Waiting(daemon, tmp_path, separateStderr=True)
    cut(job.path)
    job.print_more()
    wait_until(lambda: daemon.query(job.job_id).done)
    assert daemon.query(job.job_id).job.outputTruncated
    assert refused(lambda: daemon.raw(job.job_id, stderr=True))[0] is grpc.StatusCode.DATA_LOSS
    assert daemon.raw(job.job_id, stderr=True, offset=SIZE).endswith(b"the file]\nafter\n")
    assert daemon.raw(job.job_id) == b""


def test_while_it_pours(daemon: Daemon, tmp_path: Path) -> None:
    """A job that writes at full speed and whose file is cut meanwhile: not one NUL for anybody."""
    name = tmp_path / "name"
    os.mkfifo(name)
    job_id = daemon.bash(f"read -r name < {name}; exec {sys.executable} -c '{FLOOD}' $name")
    path = daemon.output / f"{job_id}.out"
    name.write_text(f"{path}\n")
    stream = daemon.stub.StreamJob(pb.StreamJobReq(jobID=job_id, raw=True), timeout=LIMIT)
    seen: list[bytes] = []
    with suppress(grpc.RpcError):  # one who is quick enough misses nothing
        seen.extend(message.data for message in stream)
    assert b"\0" not in b"".join(seen)
    wait_until(lambda: daemon.query(job_id).done)
    assert daemon.query(job_id).job.outputTruncated
    code, sentence = refused(lambda: daemon.raw(job_id))
    assert code is grpc.StatusCode.DATA_LOSS
    end = int(sentence.rsplit(" ", 1)[1])
    rest = daemon.raw(job_id, offset=end)
    assert rest
    assert b"\0" not in rest


def test_after_the_end(daemon: Daemon) -> None:
    """What was whole when the job ended, and is cut or replaced afterwards."""
    for meddle, what in [(cut, "cut"), (cut_in_part, "cut"), (delete, "deleted"), (create_anew, "cut")]:
        job_id = daemon.bash("echo here it is; echo and >&2", separateStderr=meddle is cut)
        daemon.end(job_id)
        meddle(daemon.output / f"{job_id}.out")
        for request in ({}, {"noFollow": True}, {"offset": 7}, {"tailLines": 1}):
            code, sentence = refused(lambda job_id=job_id, request=request: daemon.raw(job_id, **request))  # type: ignore[misc]
            assert code is grpc.StatusCode.DATA_LOSS, (meddle, request)
            assert f"another program has {what} its file" in sentence


@pytest.mark.parametrize("stderr", [False, True])
def test_one_of_two_after_the_end(daemon: Daemon, stderr: bool) -> None:
    """A job with a separate stderr: the file that nobody has touched is read to its end, and not beyond it."""
    job_id = daemon.bash("echo here it is; echo and >&2", separateStderr=True)
    daemon.end(job_id)
    meddled, intact = (daemon.output / f"{job_id}.{name}" for name in (("err", "out") if stderr else ("out", "err")))
    cut(meddled)
    whole = intact.read_bytes()
    for request in ({}, {"noFollow": True}, {"tailLines": 1}):
        assert daemon.raw(job_id, stderr=not stderr, **request) == whole
    assert refused(lambda: daemon.raw(job_id, stderr=stderr))[0] is grpc.StatusCode.DATA_LOSS
    os.truncate(intact, 100_000)
    assert daemon.raw(job_id, stderr=not stderr) == whole


def test_made_longer(daemon: Daemon, tmp_path: Path) -> None:
    """What somebody adds, be it NULs, is not what the job has printed: while it runs, and afterwards."""
    job = Waiting(daemon, tmp_path)
    os.truncate(job.path, 100_000)
    assert daemon.raw(job.job_id, noFollow=True) == BEFORE
    follower = daemon.stub.StreamJob(pb.StreamJobReq(jobID=job.job_id, raw=True), timeout=LIMIT)
    assert next(follower).data == BEFORE
    job.print_more()
    assert b"".join(message.data for message in follower) == b"after\n"
    os.truncate(job.path, 100_000)
    for request in WHOLE[:2]:
        assert daemon.raw(job.job_id, **request) == BEFORE + b"after\n"
    assert not daemon.query(job.job_id).job.outputTruncated


def test_known_after_a_restart(a_daemon: ADaemon, tmp_path: Path) -> None:
    """Also to the worker that comes after one that was killed."""
    worker = a_daemon()
    job = Waiting(worker, tmp_path)
    cut(job.path)
    job.print_more()
    wait_until(lambda: worker.query(job.job_id).done)
    lost = Waiting(worker, tmp_path)
    cut(lost.path)
    wait_until(lambda: worker.query(lost.job_id).job.outputTruncated)
    worker.kill_with_shim()
    again = Daemon(worker.place)
    try:
        assert refused(lambda: again.raw(job.job_id))[0] is grpc.StatusCode.DATA_LOSS
        assert again.raw(job.job_id, offset=SIZE).endswith(b"the file]\nafter\n")
        assert again.query(lost.job_id).job.state == pb.JOB_STATE_LOST
        assert again.query(lost.job_id).job.outputTruncated
    finally:
        again.close()


def test_the_whole_directory(a_daemon: ADaemon, tmp_path: Path) -> None:
    """Deleted: jobs that run are marked and go on in a new one, and new jobs are kept there, too."""
    worker = a_daemon()
    job = Waiting(worker, tmp_path)
    shutil.rmtree(worker.output)
    wait_until(lambda: worker.query(job.job_id).job.outputTruncated)
    assert worker.raw(worker.bash("echo new")) == b"new\n"
    job.print_more()
    wait_until(lambda: worker.query(job.job_id).done)
    assert refused(lambda: worker.raw(job.job_id))[0] is grpc.StatusCode.DATA_LOSS
    assert worker.raw(job.job_id, offset=SIZE).endswith(b"the file]\nafter\n")
    assert "has been deleted or replaced" in worker.log()
    assert (worker.output / f"{job.job_id}.out").exists()
