"""The delay of a line from the job's write to its viewer, compared to an echo call."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import grpc

from bench.clients import a_worker, client_processes, delays, percentile, start_pouring, start_stamping, writer
from bench.floor import bare_server
from bench.report import Figure
from tests.support.daemon import Daemon
from txworker.pb import worker_pb2 as pb

JOBS = 20
LINES_PER_SECOND = 100
SECONDS = 3
POURING_MEBIBYTES = 64 * 1024
"""More than is written before the job is stopped."""


def latency(directory: Path, rounds: int) -> list[Figure]:
    """
    Twenty jobs with 100 lines a second and one viewer each; then the same beside a job at full speed.

    StartJob beside that job is compared to StartJob beside the same program writing to a file, so the difference is
    the cost of recording.
    """
    echoes, quiet, poured, starts, poured_starts = [], [], [], [], []
    with a_worker(directory) as daemon, client_processes(1) as clients, bare_server(Path("/dev/null")) as bare:
        for _ in range(rounds):
            echoes.append(clients.submit(echo_seconds, bare).result())
            quiet.append(line_delays(daemon, clients))
            with straight(directory):
                starts.append(start_seconds(daemon))
            with pouring(daemon):
                poured.append(line_delays(daemon, clients))
                poured_starts.append(start_seconds(daemon))
    echo = f"echo {_milliseconds(echoes, 0.5):.2f} ms"
    middle = f"median {_milliseconds(poured, 0.5):.2f} ms"
    return [
        Figure("line to viewer, median, ms above an echo", _above(quiet, echoes, 0.5), 2, echo, at_most=True),
        Figure("line to viewer, 99th percentile, ms above an echo", _above(quiet, echoes, 0.99), 20, at_most=True),
        Figure(
            "the same while a job pours, 99th percentile, ms", _milliseconds(poured, 0.99), 50, middle, at_most=True
        ),
        Figure(
            "StartJob while a job pours, median, ms above that while it fills a file",
            _above(poured_starts, starts, 0.5),
            3,
            f"{_milliseconds(poured_starts, 0.5):.2f} ms",
            at_most=True,
        ),
    ]


def _milliseconds(rounds: list[list[float]], share: float) -> float:
    return median(percentile(one, share) for one in rounds) * 1000


def _above(rounds: list[list[float]], floors: list[list[float]], share: float) -> float:
    pairs = zip(rounds, floors, strict=True)
    return median(percentile(one, share) - percentile(floor, share) for one, floor in pairs) * 1000


def line_delays(daemon: Daemon, clients: ProcessPoolExecutor, jobs: int = JOBS) -> list[float]:
    """The delay of every line, in seconds."""
    begin = time.monotonic() + 1.5  # time for all jobs and viewers to start
    count = SECONDS * LINES_PER_SECOND
    ids = [start_stamping(daemon, begin + number / 1000, 1 / LINES_PER_SECOND, count) for number in range(jobs)]
    found = clients.submit(delays, daemon.addr, ids).result()
    if [len(lines) for lines in found] != [count] * jobs:
        raise AssertionError(f"lines are missing: {[len(lines) for lines in found]}")
    return [delay for lines in found for delay in lines]


@contextmanager
def pouring(daemon: Daemon) -> Iterator[None]:
    """A job that prints as fast as it can."""
    job_id = start_pouring(daemon, POURING_MEBIBYTES)
    yield
    daemon.stub.StopJob(pb.StopJobReq(jobID=job_id))
    (daemon.output / f"{job_id}.out").unlink()


@contextmanager
def straight(directory: Path) -> Iterator[None]:
    """The same program, writing to a file."""
    path = directory / "straight"
    with path.open("wb") as file, subprocess.Popen(writer(POURING_MEBIBYTES), stdout=file) as program:
        yield
        program.kill()
    path.unlink()


def start_seconds(daemon: Daemon, count: int = 50) -> list[float]:
    """Seconds of each of `count` StartJob calls, one after another."""
    found = []
    for _ in range(count):
        begun = time.perf_counter()
        daemon.start("/bin/true")
        found.append(time.perf_counter() - begun)
    return found


def echo_seconds(addr: str, count: int = 500) -> list[float]:
    """Seconds of each of `count` echo calls, one after another."""
    found = []
    with grpc.insecure_channel(addr) as channel:
        call: Any = channel.unary_unary("/Bare/Echo")
        for _ in range(count):
            begun = time.perf_counter()
            call(b"x")
            found.append(time.perf_counter() - begun)
    return found
