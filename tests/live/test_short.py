"""A worker with hardly a descriptor left: jobs wait for one, and nothing of them is lost or left."""

from __future__ import annotations

import os
import resource
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from signal import SIGKILL

import grpc
import pytest

from tests.live.test_moved import became_it
from tests.support.adversary import named
from tests.support.daemon import TWISTD, Daemon, cannot_start, wait_until
from txworker.pb import worker_pb2 as pb

DESCRIPTORS = 100


@pytest.fixture
def short(tmp_path: Path) -> Iterator[Daemon]:
    """One that has so many."""
    text = "[jobs]\nuse_cgroups = false\nstop_grace_seconds = 0.5\n"
    worker = Daemon(tmp_path, text, twistd=["prlimit", f"--nofile={DESCRIPTORS}:{DESCRIPTORS}", TWISTD])
    yield worker
    worker.close()


@contextmanager
def none_left(worker: Daemon, but: int = 0) -> Iterator[None]:
    """There are no more than it has now, but for so many."""
    taken = {int(file.name) for file in Path(f"/proc/{worker.process.pid}/fd").iterdir()}
    limit = sorted(set(range(DESCRIPTORS)) - taken)[but]
    resource.prlimit(worker.process.pid, resource.RLIMIT_NOFILE, (limit, DESCRIPTORS))
    yield
    with suppress(ProcessLookupError):
        resource.prlimit(worker.process.pid, resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))


@pytest.fixture
def name() -> Iterator[str]:
    """Whoever has it is gone after the test."""
    name = f"short-{uuid.uuid4().hex}"
    yield name
    for pid in named(name):
        with suppress(ProcessLookupError):
            os.kill(pid, SIGKILL)


def as_many_as_it_takes(worker: Daemon, script: str) -> list[str]:
    job_ids = []
    with suppress(grpc.RpcError):
        while True:
            job_ids.append(worker.bash(script))
    assert len(job_ids) > 20
    return job_ids


def test_output(short: Daemon, tmp_path: Path) -> None:
    """As many jobs as there are descriptors for may all begin to print at once; no byte is lost."""
    go = tmp_path / "go"
    os.mkfifo(go)
    job_ids = as_many_as_it_takes(short, f"read <{go}; head -c 100000 /dev/zero; echo the end")
    with go.open("w") as file:
        file.write("\n" * len(job_ids))
        file.flush()
        for job_id in job_ids:
            wait_until(lambda job_id=job_id: short.query(job_id).done)  # type: ignore[misc]
    for job_id in job_ids:
        assert not short.query(job_id).job.outputTruncated
        assert short.raw(job_id) == bytes(100_000) + b"the end\n"
    assert short.stop() == 0


def test_output_waits(short: Daemon, tmp_path: Path) -> None:
    """A job that begins to print when there is no descriptor for its file waits for one; no byte is lost."""
    os.mkfifo(tmp_path / "go")
    job_id = short.bash(f"read <{tmp_path / 'go'}; head -c 100000 /dev/zero; echo the end")
    with none_left(short):
        (tmp_path / "go").write_text("\n")
        wait_until(lambda: "has to wait" in short.log())
    assert short.raw(job_id) == bytes(100_000) + b"the end\n"
    assert not short.query(job_id).job.outputTruncated


def test_pipes(short: Daemon, name: str) -> None:
    """A job does not start when there is a descriptor for one of its two pipes only; with both it starts."""
    script = f"exec -a {name} sleep 300"
    assert short.end(short.bash("true")).done
    with none_left(short, but=1), pytest.raises(grpc.RpcError) as refused:
        short.bash(script, separateStderr=True)
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    wait_until(lambda: named(name) == [])
    short.bash(script, separateStderr=True)


@pytest.mark.slow
def test_takeover(short: Daemon) -> None:
    """A worker with too low a limit for the pipes that the shim holds does not start; the jobs run on."""
    job_ids = as_many_as_it_takes(short, "exec sleep 300")
    short.stop(SIGKILL)
    reason = cannot_start(short.config, ["prlimit", "--nofile=60:60", TWISTD])
    assert "they run on until a worker with a higher limit is started" in reason
    after = Daemon(short.place, short.settings)
    try:
        assert {after.query(job_id).job.state for job_id in job_ids} == {pb.JOB_STATE_RUNNING}
    finally:
        after.close()


def a_job_that_leaves(worker: Daemon, name: str, go: Path) -> str:
    """Its id, once it has left somebody with that name; it ends when `go` is written to."""
    os.mkfifo(go)
    stubborn = f"trap '' TERM; exec -a {name} sleep 300"
    job_id = worker.bash(f'(setsid bash -c "{stubborn}" >&- 2>&- &); exec bash -c "read <{go}"')
    wait_until(lambda: became_it(name))
    return job_id


@pytest.mark.slow
def test_leftovers(short: Daemon, tmp_path: Path, name: str) -> None:
    """A job is not done before somebody could look for what it has left, and then ends that."""
    job_id = a_job_that_leaves(short, name, tmp_path / "go")
    with none_left(short):
        (tmp_path / "go").write_text("\n")
        wait_until(lambda: f"What job {job_id} left behind cannot be found now" in short.log())
        assert not short.query(job_id).done
        assert len(named(name)) == 1
    wait_until(lambda: short.query(job_id).done)
    assert short.query(job_id).job.leftoversEnded == 1
    assert named(name) == []


@pytest.mark.slow
def test_worker_ends(short: Daemon, tmp_path: Path, name: str) -> None:
    """The worker ends all the same, and what is left with it."""
    job_id = a_job_that_leaves(short, name, tmp_path / "go")
    with none_left(short):
        (tmp_path / "go").write_text("\n")
        wait_until(lambda: f"What job {job_id} left behind cannot be found now" in short.log())
        assert short.stop() == 0
    assert named(name) == []
