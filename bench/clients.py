"""What several parts share: a worker to measure, jobs that print timestamps, and clients in other processes."""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc

from tests.support.daemon import Daemon
from txworker.pb import worker_pb2 as pb
from txworker.pb.worker_pb2_grpc import WorkerStub

LIMIT_SECONDS = 120.0

STAMPS = """
import os, sys, time
due, period, count = float(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
for _ in range(count):
    time.sleep(max(0.0, due - time.monotonic()))
    os.write(1, b"%d\\n" % time.monotonic_ns())
    due += period
"""
"""Prints lines with the time of writing, by CLOCK_MONOTONIC, which all processes share."""

WRITER = """
import os, sys
block = bytes(1024 * 1024)
for _ in range(int(sys.argv[1])):
    os.write(1, block)
"""
"""Writes MiBs as fast as they are read; their number is the argument."""


@contextmanager
def a_worker(parent: Path, text: str = "", server: str = "") -> Iterator[Daemon]:
    """A worker in a new directory below `parent`; the directory is removed afterwards."""
    directory = parent / f"worker-{time.monotonic_ns()}"
    directory.mkdir()
    daemon = Daemon(directory, text, server)
    try:
        yield daemon
        daemon.stop(signal.SIGTERM)
    finally:
        daemon.close()
        subprocess.run(["rm", "-r", str(directory)], check=True)


@contextmanager
def client_processes(count: int) -> Iterator[ProcessPoolExecutor]:
    """Client processes, so that clients do not use the CPU time of this process or of the worker."""
    with ProcessPoolExecutor(count, multiprocessing.get_context("spawn")) as pool:
        list(pool.map(abs, range(count)))  # starts all processes
        yield pool


def writer(mebibytes: int) -> list[str]:
    """The command that writes this many MiB."""
    return [sys.executable, "-c", WRITER, str(mebibytes)]


def start_stamping(daemon: Daemon, begin: float, period_seconds: float, count: int) -> str:
    """Start a job that prints `count` lines, the first at time.monotonic() == begin; its id."""
    return daemon.start(sys.executable, "-c", STAMPS, str(begin), str(period_seconds), str(count))


def start_pouring(daemon: Daemon, mebibytes: int) -> str:
    """Start a job that prints this many MiB as fast as it can; its id."""
    command, *args = writer(mebibytes)
    return daemon.start(command, args[0], *args[1:])


def wait_done(daemon: Daemon, job_id: str, size: int) -> None:
    """Wait until a job that prints `size` bytes is done, without reading its output."""
    for _ in daemon.stub.StreamJob(pb.StreamJobReq(jobID=job_id, raw=True, offset=size), timeout=LIMIT_SECONDS):
        pass


def delays(addr: str, job_ids: list[str]) -> list[list[float]]:
    """View each job over its own connection; the delay of every line, in seconds."""
    return asyncio.run(_all_delays(addr, job_ids))


async def _all_delays(addr: str, job_ids: list[str]) -> list[list[float]]:
    return await asyncio.gather(*(_delays(addr, job_id) for job_id in job_ids))


async def _delays(addr: str, job_id: str) -> list[float]:
    found: list[float] = []
    unfinished = b""
    async with grpc.aio.insecure_channel(addr, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        stub = WorkerStub(channel)
        async for message in stub.StreamJob(pb.StreamJobReq(jobID=job_id, raw=True), timeout=LIMIT_SECONDS):
            now = time.monotonic_ns()
            *lines, unfinished = (unfinished + message.data).split(b"\n")
            found += [(now - int(line)) / 1e9 for line in lines]
    return found


def percentile(values: list[float], share: float) -> float:
    """The value that this share of the values does not exceed."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]
