"""A process that the shim holds and no worker may go on with: it is ended before the shim forgets it. Real children."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from unittest.mock import Mock

import pytest

from tests.support.daemon import wait_until
from txworker.daemon.unfinished_jobs import KeptLeftovers, end_untaken, release_held
from txworker.jobs import Job, JobSpec, JobState
from txworker.jobs.held_process import HeldProcess
from txworker.linux.procfs import Process, ProcessTable
from txworker.ports import NO_OBSERVER
from txworker.worker.takeover import RunsOn


class FakeProcesses:
    """Records what the shim is to forget."""

    def __init__(self) -> None:
        self.released: list[str] = []

    def release(self, job_id: str, keep: bool) -> None:
        self.released.append(job_id)

    def end_stale(self, job_ids: Any, elsewhere: str, is_kept: Any) -> int:
        return 0


@pytest.fixture
def pid() -> Iterator[int]:
    """The process of a job, which does not descend from this one: another process has started it, and has ended."""
    started = subprocess.run(["sh", "-c", "setsid sleep 1000 >&- 2>&- & echo $!"], stdout=subprocess.PIPE, check=True)
    pid = int(started.stdout)
    wait_until(lambda: process_of(pid).session == pid)
    yield pid
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def process_of(pid: int) -> Process:
    found = ProcessTable().read(pid)
    assert found is not None
    return found


def has_ended(pid: int) -> bool:
    found = ProcessTable().read(pid)
    return found is None or found.zombie


def none_is_kept() -> KeptLeftovers:
    return KeptLeftovers(Mock(get=lambda job_id: None), by_default=False)


def held_process(pid: int, pipe: int) -> HeldProcess:
    return HeldProcess("id", pid, process_of(pid).start, 0.0, (pipe,))


@pytest.fixture
def pipe() -> int:
    reading, writing = os.pipe()
    os.close(writing)
    return reading


def test_cannot_be_taken_over(pid: int, pipe: int) -> None:
    """A job that cannot be taken over is ended, then its pipes are closed and the shim forgets it."""
    processes: Any = FakeProcesses()
    job = Job("id", JobSpec("sleep"), 0.0, state=JobState.RUNNING)
    assert end_untaken(RunsOn(job, held_process(pid, pipe)), processes, none_is_kept(), NO_OBSERVER) == ""
    wait_until(lambda: has_ended(pid))
    assert processes.released == ["id"]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(pipe)


@pytest.mark.parametrize("known", [True, False])
def test_still_runs(pid: int, pipe: int, known: bool) -> None:
    """What runs although its end is in the store, or no record of it, is killed before the shim forgets it."""
    processes: Any = FakeProcesses()
    store = Mock(get=lambda job_id: Job("id", JobSpec("sleep"), 0.0, state=JobState.LOST) if known else None)
    release_held(held_process(pid, pipe), store, processes, none_is_kept())
    wait_until(lambda: has_ended(pid))
    assert processes.released == ["id"]
