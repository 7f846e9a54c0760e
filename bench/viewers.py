"""Many viewers at once: 500 of one job, and 400 that read nothing."""

from __future__ import annotations

import asyncio
import re
import time
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from statistics import median

import grpc

from bench.clients import (
    a_worker,
    client_processes,
    delays,
    percentile,
    start_pouring,
    start_stamping,
    wait_done,
)
from bench.latency import line_delays
from bench.report import Figure
from tests.support.daemon import Daemon
from txworker.pb import worker_pb2 as pb
from txworker.pb.worker_pb2_grpc import WorkerStub

VIEWERS = 500
STALLED = 400
LINES_PER_SECOND = 10
SECONDS = 5
STALLED_MEBIBYTES = 256


def viewers(directory: Path, rounds: int) -> list[Figure]:
    """500 viewers that read every line, and the duration of other calls."""
    found = []
    for _ in range(rounds):
        with a_worker(directory, server="max_streams = 600") as daemon, client_processes(2) as clients:
            found.append(_many_viewers(daemon, clients))
    lines, calls, memories = ([one[index] for one in found] for index in range(3))
    return [
        Figure("500 viewers of one job, a line's 99th percentile, ms", median(lines), 500, at_most=True),
        Figure("500 viewers of one job, QueryJob's 99th percentile, ms", median(calls), 100, at_most=True),
        Figure("500 viewers of one job, the worker's memory, MB", median(memories), 200, at_most=True),
    ]


def _many_viewers(daemon: Daemon, clients: ProcessPoolExecutor) -> tuple[float, float, float]:
    begin = time.monotonic() + 4
    job_id = start_stamping(daemon, begin, 1 / LINES_PER_SECOND, SECONDS * LINES_PER_SECOND)
    half = [job_id] * (VIEWERS // 2)
    views = [clients.submit(delays, daemon.addr, half) for _ in range(2)]
    calls = _query_seconds(daemon, job_id, begin, views)
    found = [lines for view in views for lines in view.result()]
    if any(len(lines) != SECONDS * LINES_PER_SECOND for lines in found):
        raise AssertionError("a viewer did not get every line")
    ages = [age for lines in found for age in lines]
    return percentile(ages, 0.99) * 1000, percentile(calls, 0.99) * 1000, peak_bytes(daemon) / 1e6


def _query_seconds(daemon: Daemon, job_id: str, begin: float, until: list[Future[list[list[float]]]]) -> list[float]:
    time.sleep(max(0.0, begin - time.monotonic()))
    found = []
    while not any(view.done() for view in until):
        begun = time.perf_counter()
        daemon.query(job_id)
        found.append(time.perf_counter() - begun)
        time.sleep(0.02)
    return found


def stalled(directory: Path, rounds: int) -> list[Figure]:
    """400 stalled viewers of large output, and the viewers of other jobs."""
    found = []
    for _ in range(rounds):
        with a_worker(directory, server="max_streams = 600") as daemon, client_processes(2) as clients:
            found.append(_beside_stalled(daemon, clients))
    lines, memories = ([one[index] for one in found] for index in range(2))
    return [
        Figure("400 stalled viewers, other jobs' lines, 99th percentile, ms", median(lines), 20, at_most=True),
        Figure("400 stalled viewers, the worker's memory, MB", median(memories), 200, at_most=True),
    ]


def _beside_stalled(daemon: Daemon, clients: ProcessPoolExecutor) -> tuple[float, float]:
    job_id = start_pouring(daemon, STALLED_MEBIBYTES)
    wait_done(daemon, job_id, STALLED_MEBIBYTES * 1024 * 1024)
    stall = daemon.place / "stalled"
    stalling = clients.submit(stall_until_removed, daemon.addr, job_id, str(stall))
    while not stall.exists():
        time.sleep(0.05)
    ages = line_delays(daemon, clients)
    stall.unlink()
    stalling.result()
    return percentile(ages, 0.99) * 1000, peak_bytes(daemon) / 1e6


def stall_until_removed(addr: str, job_id: str, flag: str) -> None:
    """Open streams without reading; create the flag file when all windows are full; end when it is removed."""
    asyncio.run(_stall(addr, job_id, Path(flag)))


async def _stall(addr: str, job_id: str, flag: Path) -> None:
    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.insecure_channel(addr, options) for _ in range(STALLED)]
    request = pb.StreamJobReq(jobID=job_id, raw=True)
    calls = [WorkerStub(channel).StreamJob(request) for channel in channels]
    for call in calls:
        await call.initial_metadata()
    await asyncio.sleep(2)  # until flow-control windows are full
    flag.touch()
    while flag.exists():
        await asyncio.sleep(0.05)
    for call, channel in zip(calls, channels, strict=True):
        call.cancel()
        await channel.close()


def peak_bytes(daemon: Daemon) -> int:
    """The peak resident memory of the worker."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{daemon.process.pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024
