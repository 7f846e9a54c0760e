"""A worker that is told to stop while it starts, at the points where a start can wait."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.daemon import LIMIT, TWISTD, Daemon, running, shim_pid, wait_until
from txworker.linux.procfs import ProcessTable
from txworker.pb import worker_pb2 as pb
from txworker.process.shim_socket import ShimSocket

SENTENCE = "SIGTERM: ended before serving; all jobs are left to the next worker."
WITHIN_SECONDS = 15.0
"""A worker waits for an answer of the shim for 20."""


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process that a signal has stopped."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def ends_early(worker: Daemon) -> None:
    """Start a worker in that place and stop it while it starts: it says so, with exit status 0, and does not wait."""
    words = [*worker.twistd, "-n", "--pidfile=", "worker", "--config", str(worker.config)]
    with running(words, cwd=worker.place, text=True) as next_one:
        _stop(next_one.pid)
        printed, _ = next_one.communicate(timeout=WITHIN_SECONDS)
        assert next_one.returncode == 0, printed
        assert SENTENCE in printed
        assert "Traceback" not in printed


def _stop(pid: int) -> None:
    wait_until(lambda: _holds_signals(pid))
    os.kill(pid, signal.SIGTERM)


def _written(file: Path) -> str:
    return file.read_text() if file.exists() else ""


def _holds_signals(pid: int) -> bool:
    blocked = Path(f"/proc/{pid}/status").read_text().partition("SigBlk:")[2].split()[0]
    return bool(int(blocked, 16) >> (signal.SIGTERM - 1) & 1)


@pytest.fixture
def worker(a_daemon: Callable[..., Daemon]) -> Iterator[Daemon]:
    """One that was killed, with a job that waits for the file `go`."""
    made = a_daemon()
    made.bash("until [ -e go ]; do sleep 0.02; done; echo out")
    made.stop(signal.SIGKILL)
    yield made
    again = Daemon(made.place)
    try:
        (made.place / "go").touch()
        (job,) = again.stub.ListJobs(pb.ListJobsReq(), timeout=LIMIT).jobs
        assert again.raw(job.jobID) == b"out\n"
        assert again.query(job.jobID).job.state == pb.JOB_STATE_SUCCEEDED
    finally:
        again.close()


def test_stopped_shim(worker: Daemon) -> None:
    """One that waits for the answer of a stopped shim."""
    with stopped(shim_pid(worker.place / "state")):
        ends_early(worker)


@pytest.mark.slow
def test_stopped_shim_of_many(worker: Daemon) -> None:
    """One that cannot even connect to it, because so many have tried before."""
    with contextlib.ExitStack() as stack:
        state = worker.place / "state"
        stack.enter_context(stopped(shim_pid(state)))
        shim = stack.enter_context(contextlib.closing(ShimSocket(state)))
        with contextlib.suppress(BlockingIOError):
            while connection := shim.connected():
                stack.enter_context(connection)
        ends_early(worker)


@pytest.mark.slow
def test_locked_store(worker: Daemon) -> None:
    """One that waits for a store that another program has locked."""
    with contextlib.closing(sqlite3.connect(worker.place / "state" / "jobs.sqlite3")) as other:
        other.execute("BEGIN EXCLUSIVE")
        ends_early(worker)


@pytest.mark.slow
def test_refused(worker: Daemon) -> None:
    """One that would have been refused, here because of a directory that another worker has."""
    with (worker.place / "state" / "worker.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        ends_early(worker)


@pytest.mark.slow
def test_as_a_daemon(worker: Daemon) -> None:
    """The twistd that has started it says why there is no daemon, and no pidfile is left."""
    words = [TWISTD, "--pidfile=pid", "--logfile=daemon.log", "worker", "--config", str(worker.config)]
    with stopped(shim_pid(worker.place / "state")), running(words, cwd=worker.place, text=True) as starting:
        pid = int(wait_until(lambda: _written(worker.place / "pid")))
        _stop(pid)
        _, printed = starting.communicate(timeout=LIMIT)
        assert SENTENCE[:-1] in printed
        assert SENTENCE in (worker.place / "daemon.log").read_text()
        wait_until(lambda: (process := ProcessTable().read(pid)) is None or process.zombie)
        assert not (worker.place / "pid").exists()
