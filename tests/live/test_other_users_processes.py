"""Processes of a job that a worker without root may not signal: the job's record names them, and does not lie."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import LIMIT, Daemon, wait_until
from tests.support.named_processes import end
from tests.support.other_users import ROOT, a_python, open_directory
from txworker.pb import worker_pb2 as pb


@pytest.fixture
def open_place() -> Iterator[Path]:
    """A directory that every user may enter."""
    with open_directory() as place:
        yield place


@pytest.fixture
def unprivileged(open_place: Path) -> Iterator[Daemon]:
    """A worker of an unprivileged user's, and beside it a program that becomes root's and sleeps."""
    helper = open_place / "setpriv"
    helper.write_bytes(Path("/usr/bin/setpriv").read_bytes())
    helper.chmod(0o4755)
    place = open_place / "worker"
    place.mkdir()
    os.chown(place, 65534, 65534)
    python = a_python(65534)
    worker = Daemon(place, "[jobs]\nstop_grace_seconds = 0.5\n", twistd=an_unprivileged_twistd(open_place, python))
    yield worker
    end("300.5")
    worker.close()


def an_unprivileged_twistd(place: Path, python: str) -> tuple[str, ...]:
    """twistd as nobody, by a Python that nobody can execute, with the packages of this one."""
    script = place / "twistd"
    paths = [str(Path(__file__).resolve().parents[2]), *(path for path in sys.path if "site-packages" in path)]
    script.write_text(
        f"#!{python}\nimport sys\n"
        f"sys.path[:] = {paths!r} + [path for path in sys.path if 'dist-packages' not in path]\n"
        "from twisted.scripts.twistd import run\nrun()\n"
    )
    script.chmod(0o755)
    return ("/usr/bin/setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", str(script))


AS_ROOT = ("--reuid=0", "--regid=0", "--clear-groups", "sleep", "300.5")


@ROOT
@pytest.mark.slow
def test_what_may_not_be_signalled(unprivileged: Daemon, open_place: Path) -> None:
    """
    A job that has become another user's is not ended, and its record says so and why: while it is stopped, and beside
    the next worker, which has taken it over. When it has ended after all, that is told as it was.
    """
    daemon = unprivileged
    job_id = daemon.start(str(open_place / "setpriv"), "", *AS_ROOT)
    pid = daemon.query(job_id).job.pid
    wait_until(lambda: b"Uid:\t0\t0" in Path(f"/proc/{pid}/status").read_bytes())
    daemon.stub.StopJob(pb.StopJobReq(jobID=job_id), timeout=LIMIT)
    text = f"process {pid} still runs as user root: this worker (user nobody) may not signal it"
    answer = wait_until(lambda: (now := daemon.query(job_id)).errorText and now)
    assert (answer.done, answer.error, answer.errorText) == (False, False, text)
    assert (answer.job.state, answer.job.errorText) == (pb.JOB_STATE_STOPPING, text)
    assert daemon.stop() == 0
    assert f"Job {job_id} does not end: {text}." in daemon.log()
    assert "Traceback" not in daemon.log()
    again = Daemon(daemon.place, daemon.settings, twistd=daemon.twistd)
    try:
        answer = again.query(job_id)
        assert (answer.job.state, answer.errorText) == (pb.JOB_STATE_STOPPING, text)
        os.kill(pid, signal.SIGTERM)
        answer = again.end(job_id)
        assert (answer.job.state, answer.errorText) == (pb.JOB_STATE_STOPPED, "signal: terminated")
    finally:
        again.close()


@ROOT
@pytest.mark.slow  # it is given up after ten seconds
def test_what_is_left_may_not_be_signalled(unprivileged: Daemon, open_place: Path) -> None:
    """What a job left and the worker cannot end is in the job's record: it is not counted as ended."""
    daemon = unprivileged
    is_roots = r"grep -qP '^Uid:\t0\t0\t' /proc/$!/status"
    leave = f"setsid {open_place}/setpriv {' '.join(AS_ROOT)} >/dev/null 2>&1 & until {is_roots}; do sleep 0.02; done"
    job_id = daemon.bash(f"{leave}; exit 3")
    text = wait_until(lambda: daemon.query(job_id).errorText)
    assert "still runs as user root: this worker (user nobody) may not signal it" in text
    answer = daemon.end(job_id)
    assert answer.errorText.startswith("exit status 3; process ")
    assert (answer.job.state, answer.job.leftoversEnded) == (pb.JOB_STATE_FAILED, 0)


@ROOT
@pytest.mark.slow
def test_lost_and_may_not_be_signalled(unprivileged: Daemon, open_place: Path) -> None:
    """A job is lost with its shim; that its process runs on is in its record."""
    daemon = unprivileged
    job_id = daemon.start(str(open_place / "setpriv"), "", *AS_ROOT)
    pid = daemon.query(job_id).job.pid
    wait_until(lambda: b"Uid:\t0\t0" in Path(f"/proc/{pid}/status").read_bytes())
    parent = int(Path(f"/proc/{pid}/stat").read_text().split()[3])
    daemon.stop()
    os.kill(parent, signal.SIGKILL)
    wait_until(lambda: int(Path(f"/proc/{pid}/stat").read_text().split()[3]) != parent)
    again = Daemon(daemon.place, daemon.settings, twistd=daemon.twistd)
    try:
        answer = again.query(job_id)
        assert answer.job.state == pb.JOB_STATE_LOST
        assert answer.errorText.startswith(f"lost: the worker (pid {daemon.process.pid}) was stopped at ")
        assert answer.errorText.endswith(
            f"; process {pid} still runs as user root: this worker (user nobody) may not signal it"
        )
    finally:
        again.close()
