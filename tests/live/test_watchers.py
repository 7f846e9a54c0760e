"""Many watch many jobs: nobody misses anything, nobody is told anything twice, and who reads nothing costs little."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

import pytest

from tests.support.daemon import LIMIT, Daemon, wait_until
from tests.support.journal import done, list_all
from tests.support.watchers import Watcher
from txworker.pb import worker_pb2 as pb

pytestmark = pytest.mark.slow

JOBS = 2000
ALL, OF_A_THIRD, STALLED = 40, 10, 10
MEBIBYTE = 1024 * 1024


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Daemon]:
    with closing(Daemon(tmp_path)) as daemon:
        yield daemon


def run_jobs(daemon: Daemon, count: int) -> None:
    """Run that many jobs. Half of them sleep until they are stopped, all at once; the others come and go."""
    numbers = iter(range(count))
    threads = [threading.Thread(target=_run_numbered_jobs, args=(daemon, numbers)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_until(lambda: all(map(done, list_all(daemon))), 4 * LIMIT)


def _run_numbered_jobs(daemon: Daemon, numbers: Iterator[int]) -> None:
    sleeping = []
    for number in numbers:
        labels = {"third": str(number % 3)}
        if number % 2:
            sleeping.append(daemon.start("sleep", "1000", labels=labels))
        else:
            daemon.bash(f"echo {number}; exit {number % 5}", labels=labels)
    random.shuffle(sleeping)
    for job_id in sleeping:
        daemon.stub.StopJob(pb.StopJobReq(jobID=job_id), timeout=LIMIT)


def caught_up(watchers: list[Watcher], jobs: list[pb.Job]) -> None:
    """Each of them comes to know all of these as they are, and was told nothing that must not be told."""
    expected = {job.jobID: job for job in jobs}
    for watcher in watchers:
        wait_until(partial(watcher.knows, len(expected)), 4 * LIMIT)
        assert watcher.faults == []
        assert watcher.view == expected


def memory(daemon: Daemon) -> int:
    """Bytes that the worker holds."""
    return int(Path(f"/proc/{daemon.process.pid}/statm").read_text().split()[1]) * 4096


def test_fifty_watchers(worker: Daemon) -> None:
    """While 2,000 jobs run: the view of each watcher, folded from its events, comes to equal ListJobs."""
    with ExitStack() as stack:
        watchers = [stack.enter_context(closing(Watcher(worker.addr))).follow() for _ in range(ALL)]
        labels = {"third": "1"}
        some = [stack.enter_context(closing(Watcher(worker.addr, labels=labels))).follow() for _ in range(OF_A_THIRD)]
        run_jobs(worker, JOBS)
        jobs = list_all(worker)
        assert len(jobs) == JOBS
        caught_up(watchers, jobs)
        caught_up(some, [job for job in jobs if job.labels["third"] == "1"])


def test_who_reads_nothing(worker: Daemon) -> None:
    """Costs bounded memory, however many jobs there are meanwhile; and knows everything once it reads."""
    run_jobs(worker, JOBS // 4)
    with ExitStack() as stack:
        watchers = [stack.enter_context(closing(Watcher(worker.addr))) for _ in range(STALLED)]
        for watcher in watchers:
            watcher.call.initial_metadata()
        before = memory(worker)
        run_jobs(worker, JOBS)
        assert memory(worker) - before < STALLED * 2 * MEBIBYTE
        for watcher in watchers:
            watcher.follow()
        caught_up(watchers, list_all(worker))
