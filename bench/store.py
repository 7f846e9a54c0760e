"""The cost of the store for a launch: the launch rate compared to a worker whose store does nothing."""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import median

from bench.launch import settle, start_rate
from bench.report import Figure
from tests.support.daemon import Daemon

FORGETFUL = (sys.executable, str(Path(__file__).with_name("forgetful.py")))
COUNT = 300
TIMES = 3
"""More rounds than elsewhere, because the rates differ by less than each of them varies."""


def store(parent: Path, rounds: int) -> list[Figure]:
    """Measure both workers in turn, with 1, 8 and 32 launches at a time."""
    directories = [parent / name for name in ("kept", "forgotten")]
    for directory in directories:
        directory.mkdir()
    kept = Daemon(directories[0])
    forgotten = Daemon(directories[1], twistd=FORGETFUL)
    try:
        for daemon in (kept, forgotten):
            start_rate(daemon, COUNT, 8)  # warm up
            settle(daemon)
        return [_figure(kept, forgotten, rounds, concurrency) for concurrency in (1, 8, 32)]
    finally:
        for daemon in (kept, forgotten):
            daemon.stop()
            daemon.close()


def _figure(kept: Daemon, forgotten: Daemon, rounds: int, concurrency: int) -> Figure:
    ratios, rates = [], []
    for _ in range(TIMES * rounds):
        before, ours, after = (_rate(daemon, concurrency) for daemon in (forgotten, kept, forgotten))
        ratios.append(ours / ((before + after) / 2))
        rates.append(ours)
    name = f"launch rate, {concurrency} at a time, of that with a store that does nothing"
    return Figure(name, median(ratios), 0.9, f"{median(rates):.0f}/s")


def _rate(daemon: Daemon, concurrency: int) -> float:
    rate = start_rate(daemon, COUNT, concurrency)
    settle(daemon)
    return rate
