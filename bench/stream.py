"""How fast finished output is streamed, compared to a plain grpcio generator that sends the same file."""

from __future__ import annotations

import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import grpc

from bench.clients import LIMIT_SECONDS, a_worker, client_processes, start_pouring, wait_done
from bench.floor import bare_server
from bench.report import Figure
from txworker.pb import worker_pb2 as pb

MEBIBYTES = 512


def stream(directory: Path, rounds: int) -> list[Figure]:
    """512 MiB to 1, 4 and 16 viewers."""
    size = MEBIBYTES * 1024 * 1024
    with a_worker(directory) as daemon, client_processes(1) as clients:
        job_id = start_pouring(daemon, MEBIBYTES)
        wait_done(daemon, job_id, size)
        request = pb.StreamJobReq(jobID=job_id, raw=True).SerializeToString()
        with bare_server(daemon.output / f"{job_id}.out") as bare:
            worker_call = (daemon.addr, "/jobscheduler.Worker/StreamJob", request)
            bare_call = (bare, "/Bare/Send", b"")
            return [_figure(clients, rounds, viewers, worker_call, bare_call) for viewers in (1, 4, 16)]


def _figure(clients: ProcessPoolExecutor, rounds: int, viewers: int, measured: Any, floor: Any) -> Figure:
    ratios, rates = [], []
    view(clients, viewers, measured)
    for _ in range(rounds):
        before, ours, after = (view(clients, viewers, call) for call in (floor, measured, floor))
        ratios.append((before + after) / 2 / ours)
        rates.append(viewers * MEBIBYTES / ours)
    name = f"stream of 512 MiB to {viewers} viewer{'s' if viewers > 1 else ''}, of a bare generator"
    return Figure(name, median(ratios), 0.9, f"{median(rates):.0f} MiB/s in sum")


def view(clients: ProcessPoolExecutor, viewers: int, call: Any) -> float:
    """Seconds until so many viewers in another process have all bytes."""
    return clients.submit(_view, viewers, *call).result()


def _view(viewers: int, addr: str, method: str, request: bytes) -> float:
    begun = time.perf_counter()
    with ThreadPoolExecutor(viewers) as pool:
        sizes = list(pool.map(lambda _: _receive(addr, method, request), range(viewers)))
    if min(sizes) < MEBIBYTES * 1024 * 1024:
        raise AssertionError(f"a viewer got {min(sizes)} bytes")
    return time.perf_counter() - begun


def _receive(addr: str, method: str, request: bytes) -> int:
    """Counts serialized messages without parsing them, because the servers are compared and not the client."""
    with grpc.insecure_channel(addr, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        call: Any = channel.unary_stream(method)
        return sum(len(message) for message in call(request, timeout=LIMIT_SECONDS))
