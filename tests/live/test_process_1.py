"""The worker as process 1, as it is in a container without an init program."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import LIMIT, TWISTD_COMMAND, Daemon, wait_until
from txworker.pb import worker_pb2 as pb

pytestmark = pytest.mark.slow

UNSHARE = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Daemon]:
    """A worker in a pid namespace of its own."""
    tried = subprocess.run([*UNSHARE, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"no pid namespace can be made here: {tried.stderr.strip()}")
    made = Daemon(tmp_path, twistd=(*UNSHARE, *TWISTD_COMMAND))
    yield made
    made.close()


def pid_outside(worker: Daemon) -> int:
    """The worker's pid, as the test's namespace numbers it."""
    (pid,) = Path(f"/proc/{worker.process.pid}/task/{worker.process.pid}/children").read_text().split()
    return int(pid)


def inside(worker: Daemon, *words: str) -> str:
    """What a command prints that runs in the worker's namespace, as `docker exec` runs it."""
    command = ["nsenter", f"--target={pid_outside(worker)}", "--pid", "--mount", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=True).stdout


def test_orphans_are_reaped(worker: Daemon) -> None:
    """What a command in the container leaves behind does not stay as a zombie; jobs' exit codes are told as ever."""
    inside(worker, "bash", "-c", "(sleep 0.1 &); exit 0")
    wait_until(lambda: "sleep" not in inside(worker, "ps", "-eo", "comm,stat"))
    assert worker.end(worker.bash("exit 3")).job.exitCode == 3


def test_lost_jobs_are_ended(worker: Daemon) -> None:
    """When the shim is killed its jobs' processes become children of the worker, and are ended nevertheless."""
    job_id = worker.bash("setsid -f sleep 1000; sleep 1001")
    wait_until(lambda: inside(worker, "ps", "-eo", "args").count("sleep 100") >= 2)
    shim = int(inside(worker, "pgrep", "-f", "shim/main.py"))
    inside(worker, "kill", "-KILL", str(shim))
    wait_until(lambda: worker.query(job_id).job.state == pb.JOB_STATE_LOST)
    wait_until(lambda: "sleep" not in inside(worker, "ps", "-eo", "args"))
    assert worker.end(worker.start("true")).job.exitCode == 0


def test_stop(worker: Daemon) -> None:
    """SIGTERM, which the kernel keeps from a process 1 that does not handle it, ends the worker in order."""
    worker.bash("sleep 1000")
    os.kill(pid_outside(worker), signal.SIGTERM)
    assert worker.process.wait(LIMIT) == 0
    assert "The worker has ended; goodbye." in worker.log()
