"""What counting costs: launches by a worker with metrics, beside one without; and how long a scrape takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from bench.clients import a_worker
from bench.launch import WARM, done_rate, settle, start_rate
from bench.report import Figure
from tests.support.daemon import Daemon
from tests.support.web import WEB, ask

Measure = Callable[[Daemon, int, int], float]

COUNT = 300
"""Launches in one measurement."""


def metrics(directory: Path, rounds: int) -> list[Figure]:
    """
    Both workers run all the time and are measured in turn, in alternating order, so that a machine that gets slower or
    faster meanwhile does so for both.
    """
    with a_worker(directory) as plain, a_worker(directory, WEB) as counting:
        for worker in (plain, counting):
            start_rate(worker, WARM, 8)
        return [
            _figure("launch rate", start_rate, plain, counting, rounds),
            _figure("start-to-done rate", done_rate, plain, counting, rounds),
            _scrape(counting, rounds),
        ]


def _figure(name: str, measure: Measure, plain: Daemon, counting: Daemon, rounds: int) -> Figure:
    rates: dict[Daemon, list[float]] = {plain: [], counting: []}
    for number in range(2 * rounds):
        for worker in (plain, counting) if number % 2 else (counting, plain):
            rates[worker].append(measure(worker, COUNT, 8))
            settle(worker)
    ratio = median(on / off for on, off in zip(rates[counting], rates[plain], strict=True))
    note = f"{median(rates[counting]):.0f}/s of {median(rates[plain]):.0f}/s"
    return Figure(f"{name} with metrics, of that without", ratio, 0.97, note)


def _scrape(worker: Daemon, rounds: int) -> Figure:
    milliseconds = []
    for _ in range(10 * rounds):
        begun = time.perf_counter()
        ask(worker, "/metrics")
        milliseconds.append((time.perf_counter() - begun) * 1000)
    return Figure("milliseconds of a scrape", median(milliseconds), 50, at_most=True)
