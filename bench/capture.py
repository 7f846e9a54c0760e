"""How fast output is taken from jobs that pour, beside the same programs writing straight into files."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from statistics import median

from bench.clients import a_worker, start_pouring, wait_done, writer
from bench.report import Figure
from tests.support.daemon import Daemon

MEBIBYTES = 2048
"""In sum, however many jobs share it."""


def capture(place: Path, rounds: int) -> list[Figure]:
    """Of 2 GiB from one job, and of the same from eight at once."""
    return [_figure(place, rounds, jobs) for jobs in (1, 8)]


def _figure(place: Path, rounds: int, jobs: int) -> Figure:
    ratios, rates = [], []
    with a_worker(place) as daemon:
        captured(daemon, jobs)  # warm, both
        straight(place, jobs)
        for _ in range(rounds):
            before, taken, after = straight(place, jobs), captured(daemon, jobs), straight(place, jobs)
            ratios.append((before + after) / 2 / taken)
            rates.append(MEBIBYTES / taken)
    name = f"capture of 2 GiB from {jobs} job{'s' if jobs > 1 else ''}, of `> file`"
    return Figure(name, median(ratios), 0.8, f"{median(rates):.0f} MiB/s")


def straight(place: Path, jobs: int) -> float:
    """How long so many programs take to write it all straight into files."""
    paths = [place / f"straight-{number}" for number in range(jobs)]
    files = [path.open("wb") for path in paths]
    begun = time.perf_counter()
    programs = [subprocess.Popen(writer(MEBIBYTES // jobs), stdout=file) for file in files]
    for program in programs:
        program.wait()
    seconds = time.perf_counter() - begun
    for file, path in zip(files, paths, strict=True):
        file.close()
        path.unlink()
    return seconds


def captured(daemon: Daemon, jobs: int) -> float:
    """How long so many jobs take from their start to their end, which is when all is captured."""
    size = MEBIBYTES // jobs * 1024 * 1024
    begun = time.perf_counter()
    ids = [start_pouring(daemon, MEBIBYTES // jobs) for _ in range(jobs)]
    for job_id in ids:
        wait_done(daemon, job_id, size)
    seconds = time.perf_counter() - begun
    for job_id in ids:
        path = daemon.output / f"{job_id}.out"
        if path.stat().st_size != size:
            raise AssertionError(f"{path} has {path.stat().st_size} bytes, not {size}")
        path.unlink()
    return seconds
