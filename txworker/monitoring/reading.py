"""The metrics that are read at each scrape, from numbers that the parts of the worker have anyway."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from txworker.monitoring.instruments import Instruments


@dataclass(frozen=True)
class ShimReadings:
    """alive(): whether a shim is connected. jobs(): how many jobs it has. taken_over: it is older than this worker."""

    alive: Callable[[], bool]
    jobs: Callable[[], int]
    taken_over: bool


@dataclass(frozen=True)
class Sources:
    """
    Where the values come from. The functions must be callable from any thread, and neither block nor raise.

    jobs(): unfinished jobs by the name of their state.
    output_bytes(): output of the unfinished jobs; output_finished(): of all other jobs, read first.
    truncated(): unfinished jobs that have lost output.
    max_running(), max_streams: as configured; 0: no limit.
    streams(), threads(), calls_waiting(): of the gRPC server.
    reasons(): why the worker takes no new jobs, by cause; causes: all possible ones.
    registered(): whether the scheduler has the worker; None: there is no scheduler.
    certificate_expiry(): when the served certificate expires, in seconds since the epoch; it returns None if that is
        unknown. None: no TLS.
    name, instance: the worker's name, and how many workers its state directory has had.
    build: versions.
    """

    jobs: Callable[[], Mapping[str, int]]
    output_bytes: Callable[[], int]
    output_finished: Callable[[], int]
    truncated: Callable[[], int]
    max_running: Callable[[], int]
    streams: Callable[[], int]
    max_streams: int
    threads: Callable[[], int]
    calls_waiting: Callable[[], int]
    reasons: Callable[[], Mapping[str, str]]
    causes: Collection[str]
    shim: ShimReadings | None
    registered: Callable[[], bool] | None
    certificate_expiry: Callable[[], float | None] | None
    name: str
    instance: int
    build: Mapping[str, str]


def add_readings(make: Instruments, sources: Sources) -> None:
    """Add the metrics that these sources have."""
    make.constant("txworker_build_info", "Always 1; the labels tell the versions.", sources.build)
    make.constant("txworker_worker_info", "Always 1; the label tells the worker's name.", {"name": sources.name})
    make.read_gauge(
        "txworker_worker_instance", "How many workers the state directory has had.", lambda: sources.instance
    )
    _add_jobs(make, sources)
    _add_server(make, sources)
    _add_readiness(make, sources)
    if sources.shim is not None:
        _add_shim(make, sources.shim)
    if sources.registered is not None:
        make.read_gauge("txworker_scheduler_registered", "1 while the scheduler has the worker.", sources.registered)
    if sources.certificate_expiry is not None:
        make.read_gauge(
            "txworker_tls_certificate_expiry_timestamp_seconds",
            "When the certificate that is served expires.",
            sources.certificate_expiry,
        )


def _add_jobs(make: Instruments, sources: Sources) -> None:
    def jobs_by_state() -> Mapping[str, int]:
        return {**dict.fromkeys(("PENDING", "RUNNING", "STOPPING"), 0), **sources.jobs()}

    make.read_gauges("txworker_jobs", "Jobs that are not done.", "state", jobs_by_state)
    make.read_gauge("txworker_jobs_max", "The most jobs at once, jobs.max_running; 0: no limit.", sources.max_running)
    make.read_gauge("txworker_jobs_output_truncated", "Jobs that are not done and have lost output.", sources.truncated)
    make.read_counter(
        "txworker_output_bytes_total",
        "Output that was recorded.",
        Rising(sources.output_finished, sources.output_bytes),
    )


def _add_server(make: Instruments, sources: Sources) -> None:
    make.read_gauge("txworker_grpc_stream_slots_used", "Streams that count against the limit.", sources.streams)
    make.read_gauge("txworker_grpc_stream_slots", "The limit, grpc_server.max_streams.", lambda: sources.max_streams)
    make.read_gauge("txworker_grpc_threads", "Threads that serve gRPC calls.", sources.threads)
    make.read_gauge("txworker_grpc_calls_waiting", "gRPC calls that wait for a thread.", sources.calls_waiting)


def _add_readiness(make: Instruments, sources: Sources) -> None:
    def not_ready_by_cause() -> Mapping[str, int]:
        reasons = sources.reasons()
        return {cause: int(cause in reasons) for cause in sources.causes}

    make.read_gauge("txworker_ready", "1 while the worker takes jobs.", lambda: not sources.reasons())
    make.read_gauges(
        "txworker_not_ready", "1 while the worker takes no jobs for that cause.", "cause", not_ready_by_cause
    )


def _add_shim(make: Instruments, shim: ShimReadings) -> None:
    make.read_gauge("txworker_shim_alive", "1 while the shim is connected.", shim.alive)
    make.read_gauge("txworker_shim_jobs", "Jobs of which the shim has the processes.", shim.jobs)
    make.read_counter(
        "txworker_shim_takeovers_total",
        "1 if this worker took over the shim of an earlier worker.",
        lambda: shim.taken_over,
    )


class Rising:
    """
    The sum of two numbers, for a counter: counts move from `unfinished` to `finished`, and the sum never decreases.

    What moves between the two reads is in neither of them, because `finished` is read first. So the sum may be too low
    for a moment; then the previous one is returned.
    """

    def __init__(self, finished: Callable[[], int], unfinished: Callable[[], int]) -> None:
        self._finished = finished
        self._unfinished = unfinished
        self._highest = 0

    def __call__(self) -> int:
        """The sum. Any thread."""
        finished = self._finished()
        self._highest = max(self._highest, finished + self._unfinished())
        return self._highest
