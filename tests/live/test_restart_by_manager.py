"""`systemctl restart` of a worker that leaves its jobs: they run through it. By a real systemd where one boots."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from tests.live.test_takeover import Again, again
from tests.support.daemon import LIMIT, Daemon, wait_until
from tests.support.systemd import Systemd, why_not
from tests.support.unit import unit_for
from txworker.pb import worker_pb2 as pb
from txworker.pb.worker_pb2_grpc import WorkerStub

__all__ = ["again"]  # a fixture

ADaemon = Callable[..., Daemon]
JOBS = 50
LEAVE = '[jobs]\nat_stop = "leave"\n'
SCRIPT = "i=0; while [ ! -e go ]; do echo $((i++)); read -rt 0.2 -u $f; done {f}<> <(:); exit 3"


def _start(stub: WorkerStub) -> list[str]:
    order = pb.StartJobReq(command="bash", args=["-c", SCRIPT])
    return [stub.StartJob(order, timeout=LIMIT).jobID for _ in range(JOBS)]


def _records(stub: WorkerStub, ids: list[str]) -> list[tuple[int, int]]:
    jobs = [stub.QueryJob(pb.QueryJobReq(jobID=job_id), timeout=LIMIT).job for job_id in ids]
    return [(job.state, job.pid) for job in jobs]


def _check_ends(stub: WorkerStub, place: Path, ids: list[str]) -> None:
    """Each ends as it does, and every line is there, once."""
    (place / "go").touch()
    for job_id in ids:
        messages = stub.StreamJob(pb.StreamJobReq(jobID=job_id, raw=True), timeout=LIMIT)
        printed = b"".join(message.data for message in messages).split()
        assert printed == [str(number).encode() for number in range(len(printed))]
        job = stub.QueryJob(pb.QueryJobReq(jobID=job_id), timeout=LIMIT).job
        assert (job.state, job.exitCode) == (pb.JOB_STATE_FAILED, 3)


@pytest.mark.parametrize("times", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_signals(a_daemon: ADaemon, again: Again, times: int) -> None:
    """What KillMode=process does: TERM to the main process alone, its end, another one in its place; several times."""
    worker = a_daemon(LEAVE)
    ids = _start(worker.stub)
    before, shim = _records(worker.stub, ids), worker.shim()
    current = worker
    for _ in range(times):
        assert current.stop(signal.SIGTERM) == 0
        assert f"{JOBS} jobs are left to the next worker" in current.log()
        current = again(current)
        assert current.shim() == shim
        assert _records(current.stub, ids) == before
    assert {state for state, _ in before} == {pb.JOB_STATE_RUNNING}
    _check_ends(current.stub, current.place, ids)


@pytest.mark.slow
def test_systemctl_restart(tmp_path: Path) -> None:
    """The unit that ships: fifty jobs run through three restarts of it, in their cgroups below its own."""
    if reason := why_not():
        pytest.skip(reason)
    place = tmp_path / "worker"
    place.mkdir()
    (place / "worker.toml").write_text(f'[grpc_server]\naddr = "127.0.0.1:0"\n{LEAVE}')
    try:
        systemd = Systemd(tmp_path, {"txworker.service": unit_for(place)})
    except AssertionError as error:
        pytest.skip(f"systemd does not boot here: {error}")
    try:
        assert systemd.systemctl("start", "txworker").returncode == 0
        stub, served = _served(place, 1), 1
        ids = _start(stub)
        before = _records(stub, ids)
        group = systemd.systemctl("show", "txworker", "-p", "ControlGroup", "--value").stdout.strip()
        for served in range(2, 5):
            assert systemd.systemctl("restart", "txworker").returncode == 0
            stub = _served(place, served)
            assert _records(stub, ids) == before
        assert (place / "log").read_text().count(f"{JOBS} jobs are left to the next worker") == 3
        assert group == "/system.slice/txworker.service"
        assert {state for state, _ in before} == {pb.JOB_STATE_RUNNING}
        _check_ends(stub, place, ids)
        assert systemd.systemctl("stop", "txworker").returncode == 0
        assert (place / "log").read_text().count("goodbye") == served
    finally:
        systemd.close()


def _served(place: Path, times: int) -> WorkerStub:
    """A stub of the worker once workers have begun to serve that many times."""

    def read_address() -> str:
        found = re.findall(r"Serving on (\S+:\d+)", (place / "log").read_text()) if (place / "log").exists() else []
        return found[-1] if len(found) == times else ""

    return WorkerStub(grpc.insecure_channel(wait_until(read_address)))
