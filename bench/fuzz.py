"""Random requests from many clients to every method: how they are answered, and what stays in the worker."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote

import grpc
from google.protobuf.duration_pb2 import Duration

from bench.clients import a_worker
from bench.report import Figure
from tests.support.daemon import Daemon, wait_until
from tests.support.methods import METHODS, path_of
from tests.support.nonsense import Nonsense

REQUESTS = 100_000
CLIENTS = 16
LIMIT_SECONDS = 900.0
"""For the whole part; requests that are not made by then are left out."""

ANSWER_SECONDS = 20.0
"""Longer than any answer may take on a busy worker."""

_MOST_MESSAGES = 5
_LISTEN_SECONDS = 0.1
"""For streams that may never end."""

_PATHS = (
    "/jobscheduler.Worker/startJob",
    "/jobscheduler.Worker/StartJob/",
    "/jobscheduler.Worker/",
    "/Worker",
    "/",
    "//",
    "no-slash",
    "",
    "/a b/c?d=e#f",
    "/%00/%ff",
    "/é/\U0001f600",
    f"/{'x' * 3000}/y",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
)

_METADATA: tuple[tuple[tuple[str, Any], ...], ...] = (
    (("x-long", "y" * 6000),),
    (("x-too-long", "y" * 40_000),),
    tuple((f"x-{number}", "y") for number in range(100)),
    (("x-bytes-bin", bytes(range(256))),),
    (("grpc-encoding", "nonsense"), ("grpc-status-details-bin", b"\xff"), ("user-agent", "~")),
)

_FORBIDDEN = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN}


def fuzz(directory: Path, rounds: int, requests: int = REQUESTS, seed: str = "") -> list[Figure]:
    """Requests from 16 clients, each with its own connection; once, for any `rounds`."""
    seed = seed or str(time.time_ns())
    with a_worker(directory) as daemon:
        job_ids = _jobs(daemon)
        _Fuzz(daemon, job_ids, requests // 10, f"warm {seed}").run()
        before = _held(daemon)
        run = _Fuzz(daemon, job_ids, requests, seed)
        run.run()
        figures = run.figures(f"seed {seed}")
        for what, most in (("descriptors", 0), ("threads", 0)):
            with suppress(AssertionError):  # the figure then shows it
                wait_until(lambda: _held(daemon)[what] <= before[what])  # noqa: B023
            grown = _held(daemon)[what] - before[what]
            figures.append(Figure(f"fuzz: more {what}", grown, most, at_most=True))
        grown = _held(daemon)["memory, MiB"] - before["memory, MiB"]
        figures.append(Figure("fuzz: more memory, MiB", grown, 40, f"from {before['memory, MiB']:.0f}", at_most=True))
        figures.append(Figure("fuzz: tracebacks in the log", daemon.log().count("Traceback"), 0, at_most=True))
        return figures


_LASTING = 4


def _jobs(daemon: Daemon) -> list[str]:
    """Ids of jobs of each kind; the first _LASTING run on."""
    ended = daemon.start("echo", "one")
    daemon.end(ended)
    fed = [
        daemon.bash("echo one; cat > /dev/null; exec sleep 100000", feed=True),
        daemon.bash("stty raw; echo one; exec cat > /dev/null", feed=True, tty=True),
    ]
    for job_id in fed:  # the worker has their output files open from now on
        wait_until(lambda job_id=job_id: daemon.query(job_id).job.outputBytes > 0)  # type: ignore[misc]
    return [
        daemon.start("sleep", "100000"),
        *fed,
        daemon.start("sleep", "100000", lease=Duration(seconds=10_000)),
        ended,
        daemon.start("true"),
    ]


def _held(daemon: Daemon) -> dict[str, float]:
    return {
        "descriptors": daemon.descriptors(),
        "threads": daemon.threads(),
        "memory, MiB": daemon.resident_bytes() / 2**20,
    }


class _Fuzz:
    """One run of all clients."""

    def __init__(self, daemon: Daemon, job_ids: list[str], requests: int, seed: str) -> None:
        self._daemon = daemon
        self._job_ids = job_ids
        self._requests = requests
        self._seed = seed
        self._end = time.monotonic() + LIMIT_SECONDS
        self._codes: Counter[grpc.StatusCode] = Counter()
        self._wrong: list[str] = []
        self._silent: list[str] = []
        self._lock = threading.Lock()

    def run(self) -> None:
        """Run all clients to their end."""
        threads = [threading.Thread(target=self._client, args=(number,), daemon=True) for number in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def figures(self, note: str) -> list[Figure]:
        """How the requests were answered."""
        asked = sum(self._codes.values())
        codes = ", ".join(f"{code.name} {count}" for code, count in self._codes.most_common())
        return [
            Figure("fuzz: requests", asked, self._requests // CLIENTS * CLIENTS, f"{note}: {codes}"),
            Figure("fuzz: INTERNAL or UNKNOWN", len(self._wrong), 0, "; ".join(self._wrong[:3]), at_most=True),
            Figure("fuzz: not answered", len(self._silent), 0, "; ".join(self._silent[:3]), at_most=True),
        ]

    def _client(self, number: int) -> None:
        rng = random.Random(f"{self._seed}/{number}")
        socket = f"unix:{quote(str(self._daemon.place / 'state' / 'control.sock'))}"
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(self._daemon.addr, options) as tcp, grpc.insecure_channel(socket, options) as unix:
            client = _Client(tcp, unix, rng, Nonsense(rng, self._job_ids, _LASTING))
            for _ in range(self._requests // CLIENTS):
                if time.monotonic() > self._end or len(self._silent) >= CLIENTS:
                    break
                self._note(*client.ask())

    def _note(self, what: str, patient: bool, call: Any) -> None:
        code = call.code()
        with self._lock:
            self._codes[code] += 1
            if code in _FORBIDDEN:
                self._wrong.append(f"{what}: {code.name}: {call.details()}")
            if patient and code is grpc.StatusCode.DEADLINE_EXCEEDED:
                self._silent.append(what)


class _Client:
    """One client. Over the operator's socket it sends only unparsable requests, because Drain would end the worker."""

    def __init__(self, tcp: grpc.Channel, unix: grpc.Channel, rng: random.Random, nonsense: Nonsense) -> None:
        self._tcp = tcp
        self._unix = unix
        self._rng = rng
        self._nonsense = nonsense
        self._ways: list[Callable[[str, bytes], tuple[bool, Any]]] = [
            *[self._plainly] * 30,
            *[self._leaving] * 5,
            *[self._leaving_soon] * 3,
            *[self._in_a_hurry] * 3,
            self._with_metadata,
            self._compressed,
            self._with_nothing,
            self._twice,
        ]

    def ask(self) -> tuple[str, bool, Any]:
        """Make one request: its description, whether it must be answered in time, and the finished call."""
        chance = self._rng.random()
        if chance < 0.02:
            call = _begun(self._unix, "/txworker.Control/Drain", self._nonsense.unparsable(), ANSWER_SECONDS)
            return "Drain over the socket", True, _heard(call)
        if chance < 0.05:
            path, request = self._rng.choice(_PATHS), b""
        else:
            method = self._rng.choice(METHODS)
            path, request = path_of(method), self._nonsense.request(method)
        if chance > 0.9998:
            request += bytes(5_000_000)
        way = self._rng.choice(self._ways)
        patient, call = way(path, request)
        return f"{way.__name__} {path[:80]} {request[:100]!r}", patient, call

    def _plainly(self, path: str, request: bytes) -> tuple[bool, Any]:
        return self._listening(path, request)

    def _with_metadata(self, path: str, request: bytes) -> tuple[bool, Any]:
        return self._listening(path, request, metadata=self._rng.choice(_METADATA))

    def _compressed(self, path: str, request: bytes) -> tuple[bool, Any]:
        return self._listening(path, request, compression=grpc.Compression.Gzip)

    def _listening(self, path: str, request: bytes, **options: Any) -> tuple[bool, Any]:
        patient, seconds = _patience(path)
        return patient, _heard(_begun(self._tcp, path, request, seconds, **options))

    def _leaving(self, path: str, request: bytes) -> tuple[bool, Any]:
        call = _begun(self._tcp, path, request, ANSWER_SECONDS)
        call.cancel()
        return True, call

    def _leaving_soon(self, path: str, request: bytes) -> tuple[bool, Any]:
        call = _begun(self._tcp, path, request, ANSWER_SECONDS)
        time.sleep(self._rng.uniform(0, 0.005))
        call.cancel()
        return True, call

    def _in_a_hurry(self, path: str, request: bytes) -> tuple[bool, Any]:
        return False, _heard(_begun(self._tcp, path, request, self._rng.choice((0, 0.0005, 0.002, 0.01))))

    def _with_nothing(self, path: str, request: bytes) -> tuple[bool, Any]:
        return self._sending(path, [])

    def _twice(self, path: str, request: bytes) -> tuple[bool, Any]:
        return self._sending(path, [request, request])

    def _sending(self, path: str, requests: list[bytes]) -> tuple[bool, Any]:
        patient, seconds = _patience(path)
        called: Any = self._tcp.stream_stream(path)
        return patient, _heard(called(iter(requests), timeout=seconds))


def _begun(channel: grpc.Channel, path: str, request: bytes, seconds: float, **options: Any) -> Any:
    called: Any = channel.unary_stream(path)
    return called(request, timeout=seconds, **options)


def _patience(path: str) -> tuple[bool, float]:
    """Whether the call must be answered in time, and its time limit."""
    endless = path.endswith(("/StreamJob", "/WatchJobs", "/Watch"))
    return not endless, _LISTEN_SECONDS if endless else ANSWER_SECONDS


def _heard(call: Any) -> Any:
    """Read a few messages, then cancel the call."""
    with suppress(grpc.RpcError):
        for _ in islice(call, _MOST_MESSAGES):
            pass
    call.cancel()
    return call
