"""How soon a worker serves again after it and its shim were killed."""

from __future__ import annotations

import signal
from pathlib import Path
from statistics import median

from bench.fill import fill
from bench.history import FilledWorker, start_seconds
from bench.launch import start_sleeping
from bench.report import Figure
from tests.support.daemon import Daemon

JOBS, RUNNING = 10_000, 50


def recovery(directory: Path, rounds: int) -> list[Figure]:
    """Seconds of a start with a filled store and running jobs, and with an empty store, in turn."""
    full, empty = (_filled_worker(directory / name, count) for name, count in (("full", JOBS), ("empty", 0)))
    recovered, beside = [], []
    try:
        for _ in range(rounds):
            start_sleeping(full.daemon, RUNNING)
            recovered.append(start_seconds(full))
            beside.append(start_seconds(empty))
    finally:
        for worker in (full, empty):
            worker.daemon.stop(signal.SIGTERM)
            worker.daemon.close()
    name = f"recovery with {JOBS} jobs, {RUNNING} of them running, seconds"
    note = f"an empty start: {median(beside):.2f} s"
    return [
        Figure(f"{name} from the start of the process", median(recovered), 1, note, at_most=True),
        Figure(f"{name} beyond an empty start", median(recovered) - median(beside), 1, at_most=True),
    ]


def _filled_worker(directory: Path, count: int) -> FilledWorker:
    directory.mkdir()
    return FilledWorker(directory, count, fill(directory, count), Daemon(directory))
