"""Our words and the wire's, side by side: requests to values, jobs to messages. Any thread."""

from __future__ import annotations

from dataclasses import replace

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from txworker.jobs import Job, JobSpec, Limits
from txworker.jobs.errors import InvalidRequest
from txworker.pb import worker_pb2 as pb

LARGEST_BYTES = 4 * 1024 * 1024
"""Of a message: clients refuse larger ones."""

LONGEST_SECONDS = 315_576_000_000
"""Of a google.protobuf.Duration, as its documentation has it: about 10,000 years."""


def spec_from_pb(request: pb.StartJobReq) -> JobSpec:
    """
    The order of a StartJobReq.

    Raises:
        InvalidRequest: a field has a value that cannot be meant.
    """
    return JobSpec(
        command=request.command,
        path=request.path,
        args=tuple(request.args),
        env=dict(request.env),
        directory=request.directory,
        request_id=request.requestID,
        timeout_seconds=seconds_from_pb("timeout", request.timeout) if request.HasField("timeout") else None,
        stdin=request.stdin,
        limits=_limits_from_pb(request.limits) if request.HasField("limits") else Limits(),
        labels=dict(request.labels),
        quiet_timeout_seconds=(
            seconds_from_pb("quietTimeout", request.quietTimeout) if request.HasField("quietTimeout") else None
        ),
        separate_stderr=request.separateStderr,
        leftovers=request.leftovers,
    )


def seconds_from_pb(field: str, duration: Duration) -> float:
    """
    A Duration in seconds.

    Raises:
        InvalidRequest: it is negative, or longer than a Duration may be.
    """
    seconds = duration.seconds + duration.nanos / 1e9
    if seconds < 0 or duration.nanos < 0:
        raise InvalidRequest(field, seconds, "seconds is negative")
    if seconds > LONGEST_SECONDS:
        raise InvalidRequest(field, seconds, "seconds is longer than a duration may be")
    return seconds


def job_to_pb(job: Job) -> pb.Job:
    """The record of a job, with as much of its order as the job has."""
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
    )


def query_to_pb(job: Job) -> pb.QueryJobRes:
    """How a job stands: the three words that every scheduler knows, and the whole record, if a client takes that."""
    answer = pb.QueryJobRes(done=job.done, error=job.failed, errorText=job.error_text, job=job_to_pb(job))
    brief = job.spec.shortened()
    if brief is not job.spec and answer.ByteSize() > LARGEST_BYTES:
        return query_to_pb(replace(job, spec=brief))
    return answer


def _limits_from_pb(limits: pb.Limits) -> Limits:
    for field in ("maxOutputBytes", "maxMemoryBytes", "maxOpenFiles", "maxProcesses"):
        if getattr(limits, field) < 0:
            raise InvalidRequest(f"limits.{field}", getattr(limits, field), "is negative")
    return Limits(
        limits.maxOutputBytes,
        limits.maxMemoryBytes,
        seconds_from_pb("limits.maxCPU", limits.maxCPU),
        limits.maxOpenFiles,
        limits.maxProcesses,
    )


def _timestamp(at: float | None) -> Timestamp | None:
    return None if at is None else Timestamp(seconds=int(at), nanos=int(at % 1 * 1e9))


def _duration(seconds: float) -> Duration:
    return Duration(seconds=int(seconds), nanos=int(seconds % 1 * 1e9))
