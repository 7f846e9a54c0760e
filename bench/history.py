"""The cost of a million finished jobs: calls, memory and start, compared to a thousand jobs and to none."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import grpc

from bench.fill import fill, job_id
from bench.launch import resident_bytes
from bench.report import Figure
from tests.support.daemon import LIMIT, Daemon
from txworker.jobs import Job, JobSpec, JobState, Query
from txworker.pb import worker_pb2 as pb
from txworker.rpc.wire.lists import page_to_pb

MANY, FEW = 1_000_000, 1_000
CALLS = 100
"""Calls of each kind in a round."""

BY_STATE = Query(frozenset({JobState.FAILED}))
BY_LABEL = Query(labels={"team": "red"})

Call = Callable[["FilledWorker"], object]


@dataclass
class FilledWorker:
    """A worker, its directory, the number of finished jobs in its store, and the ids of some."""

    directory: Path
    count: int
    ids: list[str]
    daemon: Daemon


def history(directory: Path, rounds: int) -> list[Figure]:
    """Calls compared to those with a thousand jobs, memory compared to an empty store, seconds of a start."""
    with (
        _filled_worker(directory, MANY) as many,
        _filled_worker(directory, FEW) as few,
        _filled_worker(directory, 0) as empty,
    ):
        figures = [_calls(name, call, many, few, empty, rounds) for name, call in CALLED.items()]
        grown = (resident_bytes(many.daemon) - resident_bytes(empty.daemon)) / 1e6
        figures.append(Figure("a million jobs, the worker's memory beyond an empty one's, MB", grown, 20, at_most=True))
        seconds, beside = ([start_seconds(one) for _ in range(rounds)] for one in (many, empty))
    note = f"empty: {median(beside):.2f} s"
    return [*figures, Figure("a million jobs, seconds of a start", median(seconds), 2, note, at_most=True)]


@contextmanager
def _filled_worker(parent: Path, count: int) -> Iterator[FilledWorker]:
    directory = parent / str(count)
    directory.mkdir()
    made = FilledWorker(directory, count, fill(directory, count), Daemon(directory))
    try:
        yield made
        made.daemon.stop(signal.SIGTERM)
    finally:
        made.daemon.close()
        subprocess.run(["rm", "-r", str(directory)], check=True)


def start_seconds(worker: FilledWorker) -> float:
    """Seconds from the start of the process until it serves, after a SIGKILL."""
    worker.daemon.stop(signal.SIGKILL)
    worker.daemon.close()
    begun = time.perf_counter()
    worker.daemon = Daemon(worker.directory)
    return time.perf_counter() - begun


def _query(worker: FilledWorker) -> None:
    worker.daemon.query(_some_id(worker))


def _stream(worker: FilledWorker) -> None:
    worker.daemon.raw(_some_id(worker))


def _page(query: Query, middle: bool, worker: FilledWorker) -> None:
    """ListJobs with a page size that a store of a thousand jobs also fills, so that both answers are equal."""
    size = 20 if query.states or query.labels else 100
    request = pb.ListJobsReq(
        states=[pb.JobState.ValueType(state.value) for state in query.states],
        labels=query.labels,
        pageSize=size,
        pageToken=_middle(worker.count, query) if middle else "",
    )
    page = worker.daemon.stub.ListJobs(request, timeout=LIMIT)
    assert len(page.jobs) == (size if worker.count else 0)


CALLED: dict[str, Call] = {
    "QueryJob": _query,
    "StreamJob": _stream,
    "ListJobs, first page": partial(_page, Query(), False),
    "ListJobs, middle page": partial(_page, Query(), True),
    "ListJobs by state, first page": partial(_page, BY_STATE, False),
    "ListJobs by state, middle page": partial(_page, BY_STATE, True),
    "ListJobs by label, first page": partial(_page, BY_LABEL, False),
    "ListJobs by label, middle page": partial(_page, BY_LABEL, True),
}


def _some_id(worker: FilledWorker) -> str:
    return random.choice(worker.ids) if worker.ids else job_id(random.Random())


def _middle(count: int, query: Query) -> str:
    """The page token of the middle of the list."""
    jobs = [Job("", JobSpec("-"), 0.0, number) for number in (count // 2, 0)]
    return page_to_pb(jobs, 1, query).nextPageToken


def _calls(name: str, call: Call, many: FilledWorker, few: FilledWorker, empty: FilledWorker, rounds: int) -> Figure:
    """The empty worker is called as often, so that memory can be compared."""
    ratios, times = [], []
    for _ in range(rounds):
        _median_seconds(call, empty)
        before, measured, after = (_median_seconds(call, worker) for worker in (few, many, few))
        ratios.append(measured / ((before + after) / 2))
        times.append(measured * 1000)
    return Figure(f"{name}, of that with a thousand jobs", median(ratios), 2, f"{median(times):.2f} ms", at_most=True)


def _median_seconds(call: Call, worker: FilledWorker) -> float:
    refusals = () if worker.count else (grpc.RpcError,)  # there is no such job
    found = []
    for _ in range(CALLS):
        begun = time.perf_counter()
        with suppress(*refusals):
            call(worker)
        found.append(time.perf_counter() - begun)
    return median(found)
