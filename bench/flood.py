"""
Floods: idle connections, half handshakes, reset calls, half-sent calls.

Measures the QueryJob calls of another client during a flood, and the server's memory afterwards, for a worker and for a
plain grpcio server.
"""

from __future__ import annotations

import re
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from bench.clients import a_worker, client_processes, percentile
from bench.report import Figure
from tests.support.frames import METHODS, QUERY, connections
from tests.support.pems import Authority
from txworker.pb import worker_pb2 as pb

PERIOD_SECONDS = 0.01
"""Between two calls of the other client."""

CALL_SECONDS = 5.0
"""A call without an answer by then counts as this long."""

HALF_OPEN_SECONDS = 6.0
"""How long half handshakes are held: longer than the worker's own limit."""

HOLD_SECONDS = 3.0
"""How long everything else is held."""

BACK_SECONDS = 30.0
"""The time for memory to be given back."""


@dataclass(frozen=True)
class Sizes:
    """How many connections and calls a flood has."""

    idle: int = 2000
    half_open: int = 500
    rounds_of_resets: int = 5
    resets: int = 10_000
    half_sent: int = 1000
    half_sent_over: int = 100


@dataclass(frozen=True)
class Target:
    """A server: its address, its process, a request for it, and the CA if it uses TLS."""

    addr: str
    pid: int
    message: bytes
    ca: bytes | None


def idle(target: Target, sizes: Sizes) -> None:
    """HTTP/2 connections without any call."""
    with connections(target.addr, sizes.idle):
        time.sleep(HOLD_SECONDS)


def half_open(target: Target, sizes: Sizes) -> None:
    """TLS connections that send only the ClientHello."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    hello = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    try:
        hello.do_handshake()
    except ssl.SSLWantReadError:
        first = outgoing.read()
    host, port = target.addr.rsplit(":", 1)
    with ExitStack() as stack:
        for _ in range(sizes.half_open):
            stack.enter_context(socket.create_connection((host, int(port)))).sendall(first)
        time.sleep(HALF_OPEN_SECONDS)


def resets(target: Target, sizes: Sizes) -> None:
    """Calls that are reset at once; each round uses its own connection."""
    for _ in range(sizes.rounds_of_resets):
        with connections(target.addr, 1) as (one,):
            for _ in range(0, sizes.resets, 500):
                one.send(one.resets(500))
                one.read()
    time.sleep(1.0)


def half_sent(target: Target, sizes: Sizes) -> None:
    """Calls of all methods in turn that never send their message, spread over many connections."""
    with connections(target.addr, sizes.half_sent_over) as many:
        for number in range(sizes.half_sent):
            many[number % len(many)].begin(METHODS[number // len(many) % len(METHODS)], b"\0\0\0\0\x26")
        time.sleep(HOLD_SECONDS)


FLOODS: tuple[tuple[str, Callable[[Target, Sizes], None], bool], ...] = (
    ("{0.idle} idle connections", idle, False),
    ("{0.half_open} half-open TLS handshakes", half_open, True),
    ("{0.rounds_of_resets} x {0.resets} resets", resets, False),
    ("{0.half_sent} half-sent calls over {0.half_sent_over} connections", half_sent, False),
)
"""Name, function, and whether the server uses TLS."""

SIZES = Sizes()


def flood(directory: Path, rounds: int, sizes: Sizes = SIZES) -> list[Figure]:
    """Run each flood once, for any `rounds`, against a worker and a bare server."""
    authority = Authority()
    authority.sign("server").write(directory, "server")
    (directory / "ca.pem").write_bytes(authority.pem)
    figures = []
    with client_processes(1) as clients:
        for name, attack, with_tls in FLOODS:
            ca = authority.pem if with_tls else None
            with worker_target(directory, ca) as target:
                ours = _measure_during(target, attack, sizes, clients, directory / "flag")
            with bare_target(directory, ca) as target:
                bare = _measure_during(target, attack, sizes, clients, directory / "flag")
            what = name.format(sizes)
            for (value, of_bare), (unit, most) in zip(zip(ours, bare, strict=True), UNITS, strict=True):
                figures.append(Figure(f"{what}: {unit}", value, most, f"bare grpcio: {of_bare:.1f}", at_most=True))
    return figures


UNITS = (("QueryJob, 99th percentile, ms", 250), ("more memory afterwards, MB", 50))


@contextmanager
def worker_target(directory: Path, ca: bytes | None) -> Iterator[Target]:
    """A worker with one finished job."""
    server = 'use_tls = true\ncrt_file = "../server.pem"\nkey_file = "../server.key"\n' if ca else ""
    with a_worker(directory, server=server) as daemon, _channel(daemon.addr, ca) as channel:
        start = channel.unary_unary("/jobscheduler.Worker/StartJob")
        started = pb.StartJobRes.FromString(start(pb.StartJobReq(command="true").SerializeToString(), timeout=30))
        message = pb.QueryJobReq(jobID=started.jobID).SerializeToString()
        yield Target(daemon.addr, daemon.process.pid, message, ca)


@contextmanager
def bare_target(directory: Path, ca: bytes | None) -> Iterator[Target]:
    """A bare grpcio server (bare.py)."""
    words = [
        sys.executable,
        "-m",
        "bench.bare",
        *([str(directory / "server.pem"), str(directory / "server.key")] if ca else []),
    ]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield Target(process.stdout.readline().strip(), process.pid, b"a message as long as a QueryJobReq.", ca)
        finally:
            process.kill()


def _measure_during(
    target: Target,
    attack: Callable[[Target, Sizes], None],
    sizes: Sizes,
    clients: ProcessPoolExecutor,
    flag: Path,
) -> tuple[float, float]:
    """The 99th percentile of QueryJob during the flood in ms, and the memory that remains afterwards in MB."""
    flag.touch()
    asking = clients.submit(query_seconds, target.addr, target.message, target.ca, str(flag))
    time.sleep(1.0)  # the first calls are slower
    before = resident_megabytes(target.pid)
    attack(target, sizes)
    flag.unlink()
    ages = [age for when, age in asking.result() if when > 0.5]
    end = time.monotonic() + BACK_SECONDS
    while (more := resident_megabytes(target.pid) - before) > 10 and time.monotonic() < end:
        time.sleep(0.5)
    return percentile(ages, 0.99) * 1000, more


def query_seconds(addr: str, message: bytes, ca: bytes | None, flag: str) -> list[tuple[float, float]]:
    """Call again and again while the flag file exists: the time and the duration of each call, in seconds."""
    found = []
    begun = time.monotonic()
    with _channel(addr, ca) as channel:
        query = channel.unary_unary(QUERY)
        while Path(flag).exists():
            asked = time.monotonic()
            while not _answered(query, message) and time.monotonic() < asked + CALL_SECONDS:
                time.sleep(PERIOD_SECONDS)
            found.append((asked - begun, time.monotonic() - asked))
            time.sleep(PERIOD_SECONDS)
    return found


def _answered(query: Any, message: bytes) -> bool:
    try:
        query(message, timeout=CALL_SECONDS)
    except grpc.RpcError:
        return False
    return True


def _channel(addr: str, ca: bytes | None) -> Any:
    """A channel for serialized messages, with its own connection."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    if ca is None:
        return grpc.insecure_channel(addr, options)
    return grpc.secure_channel(addr, grpc.ssl_channel_credentials(ca), options)


def resident_megabytes(pid: int) -> float:
    """The resident memory of a process."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024 / 1e6
