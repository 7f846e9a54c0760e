"""Fifty watchers of two thousand jobs, and the cost of watchers that read nothing."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

from bench.clients import a_worker, client_processes
from bench.launch import resident_bytes, settle, start_rate
from bench.report import Figure
from tests.support.daemon import LIMIT, Daemon, wait_until
from tests.support.journal import done, list_all
from tests.support.watchers import Watcher
from txworker.pb import worker_pb2 as pb

WATCHERS, PROCESSES, JOBS, STALLED = 50, 2, 2000, 20


def watchers(directory: Path, rounds: int) -> list[Figure]:
    """
    How soon every watcher knows the last end, and that all have the same view as ListJobs; then memory.

    Once, for any `rounds`, because it takes long and is not a ratio.
    """
    with client_processes(PROCESSES) as clients, a_worker(directory) as daemon:
        seconds, rate = _watched(daemon, clients)
    with a_worker(directory) as daemon:
        grown = _stalled(daemon)
    note = f"{rate:.0f} launches/s meanwhile"
    name = f"{WATCHERS} watchers of {JOBS} jobs, all of which end with what ListJobs says"
    return [
        Figure(f"{name}: seconds behind the last end", seconds, 5, note, at_most=True),
        Figure(f"memory of a watcher that reads nothing of {JOBS} jobs, MB", grown / 1e6, 2, at_most=True),
    ]


def _watched(daemon: Daemon, clients: ProcessPoolExecutor) -> tuple[float, float]:
    """Seconds from the last end until every watcher knows it, and the launch rate."""
    settle(daemon)
    flags = [daemon.place / f"watching-{number}" for number in range(PROCESSES)]
    views = [clients.submit(final_views, daemon.addr, WATCHERS // PROCESSES, str(flag)) for flag in flags]
    wait_until(lambda: all(flag.exists() for flag in flags))
    rate = start_rate(daemon, JOBS - 2, 8)
    settle(daemon)
    jobs = wait_until(lambda: _all_ended(daemon))
    ended = time.monotonic()
    found = [one for view in views for one in view.result(4 * LIMIT)]
    if any(view != digest(jobs) for _, view in found):
        raise AssertionError("a watcher has another view than ListJobs")
    return max(at for at, _ in found) - ended, rate


def final_views(addr: str, count: int, flag: str) -> list[tuple[float, str]]:
    """
    Run `count` watchers, each with its own connection: when each knew all ends, and a digest of its view.

    Creates the file `flag` when all of them know of a first end.
    """
    with ExitStack() as stack:
        watching = [stack.enter_context(closing(Watcher(addr))).follow() for _ in range(count)]
        wait_until(lambda: all(watcher.knows(1) for watcher in watching))
        Path(flag).touch()
        found = []
        for watcher in watching:
            wait_until(partial(watcher.knows, JOBS), 4 * LIMIT)
            if watcher.faults:
                raise AssertionError(watcher.faults[0])
            found.append((watcher.last_at, digest(watcher.view.values())))
    return found


def digest(jobs: Iterable[pb.Job]) -> str:
    """A digest that is the same for the same jobs in any order."""
    words = sorted(str(job) for job in jobs)
    return hashlib.sha256("".join(words).encode()).hexdigest()


def _all_ended(daemon: Daemon) -> list[pb.Job]:
    jobs = list_all(daemon)
    return jobs if len(jobs) == JOBS and all(map(done, jobs)) else []


def _stalled(daemon: Daemon) -> float:
    """Bytes of the worker's memory for each watcher that reads nothing."""
    start_rate(daemon, JOBS, 8)
    settle(daemon)
    before = resident_bytes(daemon)
    with ExitStack() as stack:
        for _ in range(STALLED):
            stack.enter_context(closing(Watcher(daemon.addr))).call.initial_metadata()
        start_rate(daemon, JOBS, 8)
        settle(daemon)
        return (resident_bytes(daemon) - before) / STALLED
