"""How long a line takes from the job's write to its viewer, beside an echo."""

from __future__ import annotations

import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import grpc

from bench.clients import a_worker, client_processes, delays, percentile, start_pouring, start_stamping
from bench.floor import bare_server
from bench.report import Figure
from tests.support.daemon import Daemon
from txworker.pb import worker_pb2 as pb

JOBS = 20
LINES_PER_SECOND = 100
SECONDS = 3
POURING_MEBIBYTES = 64 * 1024
"""More than is written in the time; it is stopped."""


def latency(place: Path, rounds: int) -> list[Figure]:
    """Twenty jobs of 100 lines a second, one viewer each; then the same while another job pours."""
    echoes, quiet, poured = [], [], []
    with a_worker(place) as daemon, client_processes(1) as clients, bare_server(Path("/dev/null")) as bare:
        for _ in range(rounds):
            echoes.append(clients.submit(echo_seconds, bare).result())
            quiet.append(line_delays(daemon, clients))
            poured.append(_while_one_pours(daemon, clients))
    middles = [
        (percentile(lines, 0.5) - percentile(echo, 0.5)) * 1000 for lines, echo in zip(quiet, echoes, strict=True)
    ]
    highs = [
        (percentile(lines, 0.99) - percentile(echo, 0.99)) * 1000 for lines, echo in zip(quiet, echoes, strict=True)
    ]
    busy = [percentile(lines, 0.99) * 1000 for lines in poured]
    echo = f"echo {median(percentile(echo, 0.5) * 1000 for echo in echoes):.2f} ms"
    middle = f"median {median(percentile(lines, 0.5) * 1000 for lines in poured):.2f} ms"
    return [
        Figure("line to viewer, median, ms above an echo", median(middles), 2, echo, at_most=True),
        Figure("line to viewer, 99th percentile, ms above an echo", median(highs), 20, at_most=True),
        Figure("the same while a job pours, 99th percentile, ms", median(busy), 50, middle, at_most=True),
    ]


def line_delays(daemon: Daemon, clients: ProcessPoolExecutor, jobs: int = JOBS) -> list[float]:
    """Every line's age when it came, in seconds."""
    begin = time.monotonic() + 1.5  # by then each job runs and each viewer is there
    count = SECONDS * LINES_PER_SECOND
    ids = [start_stamping(daemon, begin + number / 1000, 1 / LINES_PER_SECOND, count) for number in range(jobs)]
    found = clients.submit(delays, daemon.addr, ids).result()
    if [len(lines) for lines in found] != [count] * jobs:
        raise AssertionError(f"lines are missing: {[len(lines) for lines in found]}")
    return [delay for lines in found for delay in lines]


def _while_one_pours(daemon: Daemon, clients: ProcessPoolExecutor) -> list[float]:
    pouring = start_pouring(daemon, POURING_MEBIBYTES)
    found = line_delays(daemon, clients)
    daemon.stub.StopJob(pb.StopJobReq(jobID=pouring))
    (daemon.output / f"{pouring}.out").unlink()
    return found


def echo_seconds(addr: str, count: int = 500) -> list[float]:
    """Each of so many echo calls, one after another."""
    found = []
    with grpc.insecure_channel(addr) as channel:
        call: Any = channel.unary_unary("/Bare/Echo")
        for _ in range(count):
            begun = time.perf_counter()
            call(b"x")
            found.append(time.perf_counter() - begun)
    return found
