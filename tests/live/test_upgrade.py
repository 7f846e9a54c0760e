"""Another version of the worker, installed from its wheel, comes to the shim of the one before."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.live.test_takeover import runs, until
from tests.support.daemon import Daemon, cannot_start, wait_until
from tests.support.wheels import Installed, twistd_with_shim_of
from txworker.linux.procfs import ProcessTable
from txworker.pb import worker_pb2 as pb
from txworker.shim.messages import PROTOCOL

pytestmark = pytest.mark.slow
Start = Callable[[Path, list[str]], Daemon]


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Installed]:
    """Two that speak the same to their shims, and one that does not, and has another column in its store."""
    place = tmp_path_factory.mktemp("versions")
    step = "ALTER TABLE jobs ADD COLUMN of_a_later_version INTEGER NOT NULL DEFAULT 0"
    return {
        "old": Installed(place / "old", "0.0.8", PROTOCOL),
        "new": Installed(place / "new", "0.0.9", PROTOCOL),
        "next": Installed(place / "next", "9.0.0", PROTOCOL + 1, step),
    }


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a worker of some version in a place."""
    made: list[Daemon] = []

    def make(place: Path, twistd: list[str]) -> Daemon:
        place.mkdir(exist_ok=True)
        made.append(Daemon(place, twistd=twistd))
        return made[-1]

    yield make
    for worker in reversed(made):
        worker.close()


def _lines(worker: Daemon, count: int) -> list[str]:
    """Jobs that print numbered lines until a file is there, and end with 3."""
    script = "i=0; while [ ! -e go ]; do echo $((i++)); sleep 0.01; done; exit 3"
    ids = [worker.bash(script, labels={"number": str(number)}) for number in range(count)]
    wait_until(lambda: all(worker.query(job_id).job.outputBytes for job_id in ids))
    return ids


def _check_ends(worker: Daemon, ids: list[str], pids: list[int]) -> None:
    """They run, as the same processes; then they end as they do, with every line once."""
    jobs = [worker.query(job_id).job for job_id in ids]
    assert [(job.state, job.pid) for job in jobs] == [(pb.JOB_STATE_RUNNING, pid) for pid in pids]
    (worker.place / "go").touch()
    for job_id in ids:
        end = worker.end(job_id).job
        assert (end.state, end.exitCode) == (pb.JOB_STATE_FAILED, 3)
        printed = worker.raw(job_id).split()
        assert printed == [str(number).encode() for number in range(len(printed))]


@pytest.mark.parametrize(("before", "after"), [("old", "new"), ("new", "old")])
def test_same_protocol(tmp_path: Path, versions: dict[str, Installed], start: Start, before: str, after: str) -> None:
    """An upgrade and a downgrade: the jobs are taken over, and more can be started, by the shim of before."""
    worker = start(tmp_path / "w", versions[before].twistd)
    ids = _lines(worker, 5)
    pids, shim = [worker.query(job_id).job.pid for job_id in ids], worker.shim()
    worker.stop(signal.SIGKILL)
    other = start(worker.place, versions[after].twistd)
    wait_until(lambda: f"txworker {versions[after].version}," in other.log())
    assert other.shim() == shim
    assert other.end(other.bash("exit 4", limits=pb.Limits(maxOpenFiles=100))).job.exitCode == 4
    _check_ends(other, ids, pids)


@pytest.mark.parametrize(("before", "after"), [("new", "next"), ("next", "new")])
def test_other_protocol(tmp_path: Path, versions: dict[str, Installed], start: Start, before: str, after: str) -> None:
    """It refuses with a sentence, changes nothing, and the version of before takes the jobs over."""
    worker = start(tmp_path / "w", versions[before].twistd)
    ids = _lines(worker, 5)
    pids, shim = [worker.query(job_id).job.pid for job_id in ids], worker.shim()
    worker.stop(signal.SIGKILL)
    for _ in range(2):
        sentence = cannot_start(worker.config, versions[after].twistd)
        assert f"the shim (pid {shim}, txworker {versions[before].version}) has 5 jobs and speaks protocol" in sentence
    assert all(map(runs, pids))
    again = start(worker.place, versions[before].twistd)
    assert again.shim() == shim
    _check_ends(again, ids, pids)


def test_replaced_without_jobs(tmp_path: Path, versions: dict[str, Installed], start: Start) -> None:
    """A shim without jobs is in the way of no version: it ends, and one of the new version is there."""
    worker = start(tmp_path / "w", versions["new"].twistd)
    job_id = worker.bash(f"echo out; {until('go')}; exit 3")
    first = worker.shim()
    worker.stop(signal.SIGKILL)
    (worker.place / "go").touch()
    wait_until(lambda: b"out" in (worker.output / f"{job_id}.out").read_bytes())
    again = start(worker.place, versions["new"].twistd)
    ended = again.end(job_id).job
    assert ended.exitCode == 3
    wait_until(lambda: ProcessTable().read(ended.pid) is None)  # or the shim still has the job
    again.stop(signal.SIGKILL)
    later = start(worker.place, versions["next"].twistd)
    assert later.shim() != first
    assert later.query(job_id).job.exitCode == 3
    assert later.end(later.bash("exit 4")).job.exitCode == 4


def test_files_replaced(tmp_path: Path, versions: dict[str, Installed], start: Start) -> None:
    """
    A shim whose files are gone goes on: it starts jobs, with limits and without, copies output while no worker is
    there, enforces, and hands over to the version that is installed in its place.
    """
    version = versions["old"]
    worker = start(tmp_path / "w", version.twistd)
    shim = worker.shim()
    version.remove()
    try:
        ids = [*_lines(worker, 3), worker.bash("echo; exec sleep 1000", timeout={"seconds": 1})]
        pids = [worker.query(job_id).job.pid for job_id in ids]
        limited = worker.bash("ulimit -n", limits=pb.Limits(maxOpenFiles=77))
        assert worker.raw(limited) == b"77\n"
        worker.stop(signal.SIGKILL)
        file = worker.output / f"{ids[0]}.out"
        size = file.stat().st_size
        wait_until(lambda: file.stat().st_size > size + 100)
        wait_until(lambda: not runs(pids[3]))
    finally:
        version.install(versions["new"].wheel)
    other = start(worker.place, version.twistd)
    wait_until(lambda: f"txworker {versions['new'].version}," in other.log())
    assert other.shim() == shim
    assert other.end(ids[3]).job.state == pb.JOB_STATE_TIMED_OUT
    assert other.raw(other.bash("ulimit -n", limits=pb.Limits(maxOpenFiles=78))) == b"78\n"
    _check_ends(other, ids[:3], pids[:3])


def _other_pythons() -> list[str]:
    """One of each version there is that the worker may be run by, but ours."""
    found: dict[str, str] = {}
    places = [
        *Path.home().glob(".pyenv/versions/*/bin/python3"),
        *map(Path, ("/usr/bin/python3", "/usr/local/bin/python3")),
    ]
    for python in places:
        if python.exists():
            words = [str(python), "-I", "-S", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
            version = subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()
            if tuple(map(int, version.split("."))) >= (3, 10):
                found[version] = str(python)
    found.pop("{}.{}".format(*sys.version_info[:2]), None)
    return [found[version] for version in sorted(found)]


@pytest.mark.parametrize("python", _other_pythons() or [""])
def test_other_python(tmp_path: Path, start: Start, python: str) -> None:
    """A shim that is run by another version of Python serves this one's worker, and hands over to it."""
    if not python:
        pytest.skip("no other Python from 3.10 on is installed")
    worker = start(tmp_path / "w", twistd_with_shim_of(python))
    ids = _lines(worker, 5)
    pids, shim = [worker.query(job_id).job.pid for job_id in ids], worker.shim()
    assert Path(f"/proc/{shim}/exe").resolve() == Path(python).resolve()
    worker.stop(signal.SIGKILL)
    other = start(worker.place, twistd_with_shim_of(sys.executable))
    assert other.shim() == shim
    assert other.raw(other.bash("ulimit -n", limits=pb.Limits(maxOpenFiles=78))) == b"78\n"
    _check_ends(other, ids, pids)
