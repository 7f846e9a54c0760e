"""Requests to values, and jobs to messages: one line for each field. Any thread."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Literal

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from txworker.jobs import Job, JobSpec, Limits
from txworker.jobs.errors import InvalidRequest, NotSupported, shown
from txworker.jobs.live_usage import LiveUsage
from txworker.jobs.spec import check_terminal_side
from txworker.pb import worker_pb2 as pb

MAX_MESSAGE_BYTES = 4 * 1024 * 1024
"""Clients refuse larger messages (gRPC's default)."""

MAX_DURATION_SECONDS = 315_576_000_000
"""The longest google.protobuf.Duration, about 10,000 years (duration.proto)."""

MAX_SIGNAL = 64
"""The highest real-time signal (signal(7))."""

_TOTALS = ("maxTotalMemoryBytes", "maxTotalCPUs", "maxTotalProcesses")
"""Limits of the whole job, which the worker does not offer."""

_LIMITS = ("maxOutputBytes", "maxMemoryBytes", "maxOpenFiles", "maxProcesses", *_TOTALS)
"""Limits that are numbers."""


def spec_from_pb(request: pb.StartJobReq, user: Sequence[str]) -> JobSpec:
    """
    The spec in a StartJobReq. user: the names of the user that jobs run as, the usual one first.

    Raises:
        InvalidRequest: a field has an impossible value.
        NotSupported: the request asks for what the worker does not offer.
    """
    spec = JobSpec(
        command=request.command,
        path=request.path,
        args=tuple(request.args),
        env=dict(request.env),
        directory=request.directory,
        request_id=request.requestID,
        timeout_seconds=_optional_seconds(request, "timeout"),
        stdin=request.stdin,
        limits=_limits_from_pb(request.limits) if request.HasField("limits") else Limits(),
        labels=dict(request.labels),
        quiet_timeout_seconds=_optional_seconds(request, "quietTimeout"),
        separate_stderr=request.separateStderr,
        leftovers=request.leftovers,
        lease_seconds=_optional_seconds(request, "lease"),
        tty=request.tty,
        tty_rows=request.ttyRows,
        tty_columns=request.ttyColumns,
        feed=request.feed,
    )
    _check_offered(request, user)
    return spec


def seconds_from_pb(field: str, duration: Duration) -> float:
    """
    A Duration in seconds.

    Raises:
        InvalidRequest: it is negative, above MAX_DURATION_SECONDS, or has more nanos than a second. `field` is the name
            in the error.
    """
    if duration.nanos >= 10**9:
        raise InvalidRequest(f"{field}.nanos", duration.nanos, "is a second or more")
    seconds = duration.seconds + duration.nanos / 1e9
    if seconds < 0 or duration.nanos < 0:
        raise InvalidRequest(field, seconds, "seconds is negative")
    if seconds > MAX_DURATION_SECONDS:
        raise InvalidRequest(field, seconds, "seconds is longer than a duration may be")
    return seconds


def signal_from_pb(request: pb.SignalJobReq) -> int:
    """
    The number of the signal.

    Raises:
        InvalidRequest: there is no signal with that number.
    """
    if not 1 <= request.signal <= MAX_SIGNAL:
        raise InvalidRequest("signal", request.signal, f"is not a signal: signals are 1 to {MAX_SIGNAL}")
    return request.signal


def terminal_size_from_pb(request: pb.ResizeJobReq) -> tuple[int, int]:
    """
    Rows and columns.

    Raises:
        InvalidRequest: one of them is not the size of a terminal.
    """
    for field, side in (("rows", request.rows), ("columns", request.columns)):
        check_terminal_side(field, side)
    return request.rows, request.columns


def job_to_pb(job: Job) -> pb.Job:
    """A job's record, whole or shortened as job.spec is."""
    return pb.Job(
        jobID=job.id,
        command=job.spec.command,
        path=job.spec.path,
        args=job.spec.args,
        state=pb.JobState.ValueType(job.state.value),
        exitCode=job.exit_code or 0,
        signal=job.signal or 0,
        errorText=job.error_text,
        createdAt=_timestamp(job.created_at),
        startedAt=_timestamp(job.started_at),
        finishedAt=_timestamp(job.finished_at),
        outputBytes=job.output_bytes,
        labels=job.spec.labels,
        requestID=job.spec.request_id,
        userCPU=_duration(job.usage.user_cpu_seconds) if job.done else None,
        systemCPU=_duration(job.usage.system_cpu_seconds) if job.done else None,
        maxRSSBytes=job.usage.max_rss_bytes,
        outputTruncated=job.output_truncated,
        pid=job.pid or 0,
        leftoversEnded=job.leftovers_ended,
        shortened=job.spec.cut is not None and job.spec.cut.in_record,
        coreDumped=job.core_dumped,
        directory=job.settings.directory,
        timeout=_optional_duration(job.spec.timeout_seconds),
        quietTimeout=_optional_duration(job.spec.quiet_timeout_seconds),
        limits=_limits_to_pb(job.settings.limits) if job.settings.limits != Limits() else None,
        envNames=sorted(job.spec.env),
        separateStderr=job.spec.separate_stderr,
        user=job.settings.user,
        takeovers=job.takeovers,
    )


def query_to_pb(job: Job) -> pb.QueryJobRes:
    """
    The answer to QueryJob: the three fields that every scheduler knows, and the record.

    The record is shortened when the whole one makes the message larger than clients accept.
    """
    answer = pb.QueryJobRes(done=job.done, error=job.failed, errorText=job.error_text, job=job_to_pb(job))
    shortened = job.spec.shortened()
    if shortened is not job.spec and answer.ByteSize() > MAX_MESSAGE_BYTES:
        return query_to_pb(job.changed(spec=shortened))
    return answer


def usages_to_pb(usages: Iterable[LiveUsage]) -> pb.JobUsageRes:
    """The answer to JobUsage."""
    return pb.JobUsageRes(
        usages=[
            pb.Usage(
                jobID=usage.job_id,
                processes=usage.processes,
                rssBytes=usage.rss_bytes,
                userCPU=_duration(usage.user_cpu_seconds),
                systemCPU=_duration(usage.system_cpu_seconds),
            )
            for usage in usages
        ]
    )


def _optional_seconds(request: pb.StartJobReq, field: Literal["timeout", "quietTimeout", "lease"]) -> float | None:
    return seconds_from_pb(field, getattr(request, field)) if request.HasField(field) else None


def _check_offered(request: pb.StartJobReq, user: Sequence[str]) -> None:
    """Raises NotSupported. Files of variables are not shown: they may be secret."""
    if request.envFiles:
        raise NotSupported(
            "envFiles", sorted(request.envFiles), "are variables from files, which this worker does not offer"
        )
    if request.user and request.user not in user:
        raise NotSupported("user", request.user, f"is not the user that this worker runs all jobs as, {shown(user[0])}")
    if request.HasField("limits"):
        for field in _TOTALS:
            if total := getattr(request.limits, field):
                problem = "is a limit of the whole job, which this worker does not offer"
                raise NotSupported(f"limits.{field}", total, problem)


def _limits_from_pb(limits: pb.Limits) -> Limits:
    for field in _LIMITS:
        if getattr(limits, field) < 0:
            raise InvalidRequest(f"limits.{field}", getattr(limits, field), "is negative")
    if not math.isfinite(limits.maxTotalCPUs):
        raise InvalidRequest("limits.maxTotalCPUs", limits.maxTotalCPUs, "is not a number of CPUs")
    return Limits(
        max_output_bytes=limits.maxOutputBytes,
        max_memory_bytes=limits.maxMemoryBytes,
        max_cpu_seconds=seconds_from_pb("limits.maxCPU", limits.maxCPU),
        max_open_files=limits.maxOpenFiles,
        max_processes=limits.maxProcesses,
    )


def _limits_to_pb(limits: Limits) -> pb.Limits:
    return pb.Limits(
        maxOutputBytes=limits.max_output_bytes,
        maxMemoryBytes=limits.max_memory_bytes,
        maxCPU=_duration(limits.max_cpu_seconds) if limits.max_cpu_seconds else None,
        maxOpenFiles=limits.max_open_files,
        maxProcesses=limits.max_processes,
    )


def _timestamp(at: float | None) -> Timestamp | None:
    return None if at is None else Timestamp(seconds=int(at), nanos=int(at % 1 * 1e9))


def _optional_duration(seconds: float | None) -> Duration | None:
    return None if seconds is None else _duration(seconds)


def _duration(seconds: float) -> Duration:
    return Duration(seconds=int(seconds), nanos=int(seconds % 1 * 1e9))
