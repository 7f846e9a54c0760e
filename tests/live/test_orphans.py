"""What runs on when a worker was killed is found by its successor, and nobody else is touched."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.adversary import cgroup_root
from tests.support.daemon import LIMIT, wait_until
from txworker.jobs import JOB_ID_VARIABLE
from txworker.leftovers.recorded_jobs import RecordedJob
from txworker.leftovers.tags import environment_tag
from txworker.linux.cgroup import Cgroups
from txworker.linux.clock import boot_ticks
from txworker.linux.procfs import ProcessTable

CHAIN = """
import os, sys
for _ in range(100_000):
    if os.fork():
        os._exit(0)
    os.setsid()
    open(sys.argv[1], "a").write(f"{os.getpid()}\\n")
"""
"""Forks a successor as fast as it can, some minutes at most; each leads a session of its own."""


SUCCESSOR = """
import sys
from txworker.leftovers.recorded_jobs import RecordedJob
from txworker.leftovers.recovery import end_lost_jobs
pid, start, known, until, seconds = sys.argv[2:]
jobs = [RecordedJob(sys.argv[1], int(pid), int(start))] if pid else []
print(end_lost_jobs(jobs, lambda tag: tag == known, int(until), limit_seconds=float(seconds)))
"""


def ended(job: RecordedJob | None, known: str = "", seconds: float = 4.0) -> int:
    """How many a successor finds and ends: a process that descends neither from the job nor the job from it."""
    words = [job.job_id, str(job.pid), str(job.start)] if job else ["", "", ""]
    command = [sys.executable, "-c", SUCCESSOR, *words, known, str(boot_ticks()), str(seconds)]
    return int(subprocess.check_output(command, text=True, timeout=LIMIT))


def started(script: str, mark: str, place: Path) -> int:
    """The pid of a job that is started as a worker starts one, by a process that has ended since."""
    start = (
        "import subprocess; null = subprocess.DEVNULL; print(subprocess.Popen("
        f"['bash', '-c', {script!r}], start_new_session=True, stdout=null, stderr=null).pid)"
    )
    environment = {**os.environ, JOB_ID_VARIABLE: mark}
    return int(
        subprocess.check_output([sys.executable, "-c", start], env=environment, cwd=place, text=True, timeout=LIMIT)
    )


def a_job(script: str, mark: str, place: Path) -> RecordedJob:
    """The same, as it is recorded."""
    pid = started(script, mark, place)
    process = ProcessTable().read(pid)
    assert process is not None
    return RecordedJob(mark, pid, process.start)


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """Somebody else with the same name, and the mark of a job that nobody has lost."""
    process = subprocess.Popen(
        ["bash", "-c", "sleep 300 & sleep 300; wait"], env={**os.environ, JOB_ID_VARIABLE: "not lost"}
    )
    yield process
    assert process.poll() is None
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    wait_until(lambda: len(children.read_text().split()) == 2)
    for pid in children.read_text().split():
        os.kill(int(pid), 9)
    process.kill()
    process.wait()


def marked(*marks: str) -> list[int]:
    pids = [int(name) for name in os.listdir("/proc") if name.isdecimal()]
    processes = [ProcessTable().read(pid) for pid in pids if environment_tag(pid) in marks]
    return [process.pid for process in processes if process is not None and not process.zombie]


@pytest.fixture
def mark() -> Iterator[str]:
    """The tag of a lost job; every process that carries it is gone after the test."""
    mark = str(uuid.uuid4())
    yield mark
    for pid in marked(mark):
        os.kill(pid, 9)


def test_everything_is_found(tmp_path: Path, mark: str, bystander: subprocess.Popen[bytes]) -> None:
    """Children, own sessions, daemons, an emptied environment below a living parent, and who ignores signals."""
    job = a_job(
        "trap '' TERM HUP INT; sleep 300 & setsid sleep 300 & (setsid sleep 300 &); env -i sleep 300 & : >ready; "
        "wait; wait",
        mark,
        tmp_path,
    )
    wait_until(lambda: (tmp_path / "ready").exists() and len(marked(mark)) == 4)
    assert ended(job) == 5
    assert marked(mark) == []
    assert ended(job) == 0


def test_slow_look(tmp_path: Path, mark: str) -> None:
    """Those that were found are killed, not left behind stopped, though the time was over when they were found."""
    assert ended(a_job("sleep 300", mark, tmp_path), seconds=-1) >= 0
    wait_until(lambda: not marked(mark))


def test_chain(tmp_path: Path, mark: str, bystander: subprocess.Popen[bytes]) -> None:
    """A job that forks successors without pause is caught, by its mark, also when nothing else is known of it."""
    place = tmp_path / "pids"
    (tmp_path / "chain.py").write_text(CHAIN)
    started(f"exec {sys.executable} chain.py {place}", mark, tmp_path)
    wait_until(lambda: place.exists() and len(place.read_text().split()) > 50)
    assert ended(None, mark) >= 1
    assert marked(mark) == []


def test_stale_cgroup(tmp_path: Path, mark: str) -> None:
    """What a dead worker left in a cgroup is ended at one stroke, whatever it did to hide, and the cgroup goes."""
    if not cgroup_root():
        pytest.skip("needs root and a cgroup v2 hierarchy that can be written")
    cgroup = Cgroups(Path(cgroup_root()), f"txworker-test-{mark}")
    job = cgroup.of("job")
    Path(job.path).mkdir()
    script = (
        f"echo 0 >{job.path}/cgroup.procs; setsid sleep 300 & (env -i setsid sleep 300 &) ; echo ready >ready; wait"
    )
    a_job(script, mark, tmp_path)
    wait_until(lambda: (tmp_path / "ready").exists() and len(job.pids()) == 3)
    assert cgroup.end_stale() == 3
    assert (job.pids(), [place for place in cgroup.path.iterdir() if place.is_dir()]) == ([], [])
    cgroup.close()
    assert not cgroup.path.exists()
