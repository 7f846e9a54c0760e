"""How fast output of jobs at full speed is recorded, compared to the same programs writing to files."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from bench.clients import a_worker, wait_done, writer
from bench.report import Figure
from tests.support.daemon import Daemon

MEBIBYTES = 2048
"""In total, for any number of jobs."""

PROGRAMS: dict[str, Callable[[int], list[str]]] = {
    "head -c": lambda mebibytes: ["head", "-c", f"{mebibytes}M", "/dev/zero"],
    "1 MiB writes": writer,
}
"""A usual program, and one that does nothing but write, which is faster than any pipe."""


def capture(directory: Path, rounds: int) -> list[Figure]:
    """2 GiB from one job, and from eight jobs at once."""
    with a_worker(directory) as daemon:
        return [_figure(daemon, directory, rounds, jobs, name) for name in PROGRAMS for jobs in (1, 8)]


def _figure(daemon: Daemon, directory: Path, rounds: int, jobs: int, name: str) -> Figure:
    ratios, rates = [], []
    commands = [PROGRAMS[name](MEBIBYTES // jobs)] * jobs
    captured(daemon, commands)  # warm up both
    straight(directory, commands)
    for _ in range(rounds):
        before, taken, after = straight(directory, commands), captured(daemon, commands), straight(directory, commands)
        ratios.append((before + after) / 2 / taken)
        rates.append(MEBIBYTES / taken)
    title = f"capture of 2 GiB from {jobs} job{'s' if jobs > 1 else ''} ({name}), of `> file`"
    return Figure(title, median(ratios), 0.8, f"{median(rates):.0f} MiB/s")


def straight(directory: Path, commands: list[list[str]]) -> float:
    """Seconds that these programs take to write to files, all at once."""
    paths = [directory / f"straight-{number}" for number in range(len(commands))]
    files = [path.open("wb") for path in paths]
    begun = time.perf_counter()
    programs = [subprocess.Popen(command, stdout=file) for command, file in zip(commands, files, strict=True)]
    for program in programs:
        program.wait()
    seconds = time.perf_counter() - begun
    for file, path in zip(files, paths, strict=True):
        file.close()
        path.unlink()
    return seconds


def captured(daemon: Daemon, commands: list[list[str]]) -> float:
    """Seconds that they take as jobs, from start to end; at the end all output is recorded."""
    size = MEBIBYTES // len(commands) * 1024 * 1024
    begun = time.perf_counter()
    ids = [daemon.start(command, path, *args) for command, path, *args in commands]
    for job_id in ids:
        wait_done(daemon, job_id, size)
    seconds = time.perf_counter() - begun
    for job_id in ids:
        path = daemon.output / f"{job_id}.out"
        if path.stat().st_size != size:
            raise AssertionError(f"{path} has {path.stat().st_size} bytes, not {size}")
        path.unlink()
    return seconds
