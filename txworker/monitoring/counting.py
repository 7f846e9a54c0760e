"""The observer that counts events in metrics of a registry."""

from __future__ import annotations

import time
from collections.abc import Callable

from prometheus_client import Counter, Histogram

from txworker.jobs import Job, JobState
from txworker.monitoring.instruments import Instruments
from txworker.ports import Observer

SHORT = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Bounds in seconds of what should take milliseconds at most."""

CALLS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)
"""Bounds for launches and calls; a call that is not answered is given up after a minute."""

JOBS = (0.01, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 4 * 3600.0, 24 * 3600.0, 7 * 24 * 3600.0)
"""Bounds for jobs, from a shell command to a week."""


class CountingObserver(Observer):
    """
    Counts events, in any thread. now() is the wall clock, in seconds since the epoch.

    output_finished: how many bytes of output all jobs have that are done, by Observer.ended().
    """

    def __init__(self, make: Instruments, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self.output_finished = 0
        self._count_jobs(make)
        self._count_calls(make)
        self._count_store(make)
        self._shim_ended = make.counter("txworker_shim_ends_total", "How often the shim has ended unexpectedly.")
        self._reloaded = make.gauge(
            "txworker_config_last_reload_successful", "0 after a reload that refused the configuration, otherwise 1."
        )
        self._reloaded.set(1)
        self._reloaded_at = make.gauge(
            "txworker_config_last_reload_success_timestamp_seconds", "When the configuration in force was read."
        )
        self._reloaded_at.set(now())
        self._scheduler_answered = make.gauge(
            "txworker_scheduler_last_success_timestamp_seconds",
            "When the scheduler last registered the worker or answered it; 0: not yet.",
        )

    def _count_jobs(self, make: Instruments) -> None:
        self._started = make.counter("txworker_jobs_started_total", "Jobs that were started.")
        self._launch_seconds = make.histogram(
            "txworker_job_launch_seconds", "From the acceptance of a request until the job's process runs.", CALLS
        )
        self._refused = make.counter("txworker_jobs_refused_total", "Requests for a job that were refused.", "reason")
        self._taken_over = make.counter("txworker_jobs_taken_over_total", "Jobs of an earlier worker that run on.")
        ended = make.counter("txworker_jobs_ended_total", "Jobs that are done.", "state")
        self._ended = {state: ended.labels(state.name) for state in JobState if state.value >= JobState.SUCCEEDED.value}
        self._job_seconds = make.histogram(
            "txworker_job_duration_seconds", "From a job's start until it is done, without lost jobs.", JOBS
        )
        self._leftovers = make.counter(
            "txworker_leftovers_ended_total", "Processes that jobs left behind and the worker ended."
        )
        lost = make.counter("txworker_output_lost_bytes_total", "Output that is not in the files.", "cause")
        self._output_lost = {cause: lost.labels(cause) for cause in ("limit", "disk", "changed")}

    def _count_calls(self, make: Instruments) -> None:
        self._calls = make.counter("txworker_grpc_calls_total", "gRPC calls that have ended.", "method", "code")
        self._call_seconds = make.histogram(
            "txworker_grpc_call_seconds", "From the arrival of a gRPC call until its end.", CALLS, "method"
        )
        self._by_call: dict[tuple[str, str], tuple[Counter, Histogram]] = {}  # a look-up costs as much as counting
        self._call_wait = make.histogram(
            "txworker_grpc_call_wait_seconds", "From the arrival of a gRPC call until a thread serves it.", SHORT
        )
        self._streams = make.gauge("txworker_grpc_streams_open", "Streams and watches that are being served.", "method")
        self._bridged = make.histogram(
            "txworker_bridge_delay_seconds", "How long calls of gRPC threads wait for the reactor.", SHORT
        )
        self._turned = make.histogram(
            "txworker_reactor_lag_seconds", "How late a timer of the reactor fires that is due each second.", SHORT
        )

    def _count_store(self, make: Instruments) -> None:
        self._committed = make.histogram("txworker_store_commit_seconds", "Transactions of the store.", SHORT)
        self._removed = make.counter("txworker_retention_removed_jobs_total", "Jobs that retention has removed.")
        self._retention_failed = make.counter("txworker_retention_failures_total", "Passes of retention that failed.")
        self._retention_looked = make.gauge(
            "txworker_retention_last_success_timestamp_seconds",
            "When retention last succeeded; 0: not yet, or no limits.",
        )

    def started(self, seconds: float) -> None:
        """See Observer, also for all that follow."""
        self._started.inc()
        self._launch_seconds.observe(seconds)

    def refused(self, reason: str) -> None:
        """See Observer."""
        self._refused.labels(reason).inc()

    def taken_over(self) -> None:
        """See Observer."""
        self._taken_over.inc()

    def ended(self, job: Job, output_bytes: int) -> None:
        """See Observer."""
        self.output_finished += output_bytes
        self._ended[job.state].inc()
        if job.leftovers_ended:
            self._leftovers.inc(job.leftovers_ended)
        if job.state is not JobState.LOST and job.started_at is not None and job.finished_at is not None:
            self._job_seconds.observe(job.finished_at - job.started_at)

    def output_lost(self, cause: str, count: int) -> None:
        """See Observer."""
        self._output_lost[cause].inc(count)

    def call_answered(self, method: str, code: str, waited_seconds: float, seconds: float) -> None:
        """See Observer."""
        called = self._by_call.get((method, code))
        if called is None:
            called = self._calls.labels(method, code), self._call_seconds.labels(method)
            self._by_call[method, code] = called
        called[0].inc()
        called[1].observe(seconds)
        self._call_wait.observe(waited_seconds)

    def stream_opened(self, method: str) -> None:
        """See Observer."""
        self._streams.labels(method).inc()

    def stream_closed(self, method: str) -> None:
        """See Observer."""
        self._streams.labels(method).dec()

    def bridged(self, seconds: float) -> None:
        """See Observer."""
        self._bridged.observe(seconds)

    def turned(self, late_seconds: float) -> None:
        """See Observer."""
        self._turned.observe(late_seconds)

    def committed(self, seconds: float) -> None:
        """See Observer."""
        self._committed.observe(seconds)

    def retention_looked(self, removed: int) -> None:
        """See Observer."""
        self._removed.inc(removed)
        self._retention_looked.set(self._now())

    def retention_failed(self) -> None:
        """See Observer."""
        self._retention_failed.inc()

    def leftovers_ended(self, count: int) -> None:
        """See Observer."""
        self._leftovers.inc(count)

    def shim_ended(self) -> None:
        """See Observer."""
        self._shim_ended.inc()

    def reloaded(self, succeeded: bool) -> None:
        """See Observer."""
        self._reloaded.set(succeeded)
        if succeeded:
            self._reloaded_at.set(self._now())

    def scheduler_answered(self) -> None:
        """See Observer."""
        self._scheduler_answered.set(self._now())
