"""Jobs that make siblings of themselves, children of the worker that it did not launch; ended like all they leave."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from signal import SIGKILL

import pytest

from tests.support.adversary import GRACE, SCRIPTS, named
from tests.support.daemon import Daemon, wait_until
from txworker.leftovers.clone_parent import FEW_JOBS
from txworker.linux.procfs import ProcessTable
from txworker.pb import worker_pb2 as pb

ADaemon = Callable[..., Daemon]
CGROUPS = pytest.mark.parametrize("cgroups", ["true", "false"])
SELDOM_WITH = pytest.mark.parametrize("cgroups", [pytest.param("true", marks=pytest.mark.slow), "false"])
SELDOM_WITHOUT = pytest.mark.parametrize("cgroups", ["true", pytest.param("false", marks=pytest.mark.slow)])


@pytest.fixture
def name() -> Iterator[str]:
    """Whoever has it is gone after the test."""
    name = f"sibling-{uuid.uuid4().hex}"
    yield name
    for pid in named(name):
        with suppress(ProcessLookupError):
            os.kill(pid, SIGKILL)


def script(name: str, count: int | str, place: Path, stay: str = "") -> str:
    return f"exec {sys.executable} -IS {SCRIPTS}/sibling.py {name} {count} {place} {stay}"


def made(place: Path) -> int:
    return len(place.read_text().split()) if place.exists() else 0


def zombies(daemon: Daemon) -> list[int]:
    processes = [ProcessTable().read(pid) for pid in ProcessTable().children(daemon.shim())]
    return [process.pid for process in processes if process is not None and process.zombie]


def a_worker(a_daemon: ADaemon, cgroups: str) -> Daemon:
    return a_daemon(f"[jobs]\nuse_cgroups = {cgroups}\nstop_grace_seconds = 0.5\n")


@SELDOM_WITH
def test_ended_with_the_job(a_daemon: ADaemon, tmp_path: Path, name: str, cgroups: str) -> None:
    """They end with it, however it ends, are counted, and no zombie is left."""
    worker = a_worker(a_daemon, cgroups)
    assert worker.end(worker.bash(script(name, 6, tmp_path / "ended"))).job.leftoversEnded == 6
    assert named(name) == []
    place = tmp_path / "stopped"
    job_id = worker.bash(script(name, 6, place, "stay"))
    wait_until(lambda: made(place) == 6)
    worker.stub.StopJob(pb.StopJobReq(jobID=job_id, grace=GRACE))
    worker.end(job_id)
    assert named(name) == []
    wait_until(lambda: not zombies(worker))


@SELDOM_WITHOUT
def test_chain(a_daemon: ADaemon, tmp_path: Path, name: str, cgroups: str) -> None:
    """A chain of them is caught."""
    worker = a_worker(a_daemon, cgroups)
    place = tmp_path / "chain"
    assert worker.end(worker.bash(script(name, "chain", place))).job.leftoversEnded >= 1
    assert named(name) == []
    wait_until(lambda: not zombies(worker))


@CGROUPS
def test_worker_ends(a_daemon: ADaemon, tmp_path: Path, name: str, cgroups: str) -> None:
    """Whoever is there when the worker ends, ends."""
    worker = a_worker(a_daemon, cgroups)
    place = tmp_path / "place"
    worker.bash(script(name, 6, place, "stay"))
    wait_until(lambda: made(place) == 6)
    assert worker.stop() == 0
    assert named(name) == []


@SELDOM_WITHOUT
def test_among_many(a_daemon: ADaemon, tmp_path: Path, name: str, cgroups: str) -> None:
    """Among so many jobs that they are not looked for at each end: within a moment, and only the job's own."""
    worker = a_worker(a_daemon, cgroups)
    others = [worker.start("sleep", "300") for _ in range(FEW_JOBS + 5)]
    kept, place = f"{name}-kept", tmp_path / "kept"
    worker.bash(script(kept, 1, place, "stay"))
    wait_until(lambda: made(place) == 1)
    worker.end(worker.bash(script(name, 6, tmp_path / "ended")))
    wait_until(lambda: len(named(name)) == 1)
    wait_until(lambda: not zombies(worker))
    assert len(named(kept)) == 1
    assert all(not worker.query(job_id).done for job_id in others)
    assert worker.stop() == 0
    assert named(name) == []


def test_launches_beside(a_daemon: ADaemon, tmp_path: Path, name: str) -> None:
    """Launches that are under way while siblings are looked for, and waited for, are left alone."""
    worker = a_worker(a_daemon, "false")
    limited = pb.Limits(maxOpenFiles=50)
    job_ids = []
    for number in range(30):
        worker.bash(script(name, 2, tmp_path / "place"))
        job_ids += [worker.bash(f"exit {number}"), worker.bash(f"exit {number}", limits=limited)]
        with pytest.raises(Exception, match="no-such"):
            worker.start("/no-such", limits=limited)
    assert [worker.end(job_id).job.exitCode for job_id in job_ids] == [number // 2 for number in range(60)]
    wait_until(lambda: not named(name))
