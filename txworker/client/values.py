"""Jobs as a program sees them: frozen values, made from messages of the wire."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from txworker.client.parameters import SECONDS, WHOLE_NUMBER, parameter
from txworker.pb import worker_pb2 as pb


class JobState(enum.IntEnum):
    """The states of a job, with the numbers of the wire."""

    UNSPECIFIED = 0
    PENDING = 1
    RUNNING = 2
    STOPPING = 3
    SUCCEEDED = 4
    FAILED = 5
    STOPPED = 6
    TIMED_OUT = 7
    LOST = 8

    @classmethod
    def _missing_(cls, value: object) -> JobState:
        """A state that is newer than this client."""
        return cls.UNSPECIFIED


DONE = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.STOPPED, JobState.TIMED_OUT, JobState.LOST})
"""The final states."""


_MOST_SECONDS = 315_576_000_000
"""The longest Duration: ten thousand years."""


@dataclass(frozen=True)
class Limits:
    """
    Limits of a job; 0 means the worker's default. Memory is the address space of each process.

    Raises:
        TypeError: one of them is not a number.
        ValueError: it cannot be sent.
    """

    max_output_bytes: int = 0
    max_memory_bytes: int = 0
    max_cpu_seconds: float = 0.0
    max_open_files: int = 0
    max_processes: int = 0

    def __post_init__(self) -> None:
        self.to_pb()

    def to_pb(self) -> pb.Limits:
        """The message of the wire."""
        limits = pb.Limits()
        with parameter("max_output_bytes", WHOLE_NUMBER, self.max_output_bytes):
            limits.maxOutputBytes = self.max_output_bytes
        with parameter("max_memory_bytes", WHOLE_NUMBER, self.max_memory_bytes):
            limits.maxMemoryBytes = self.max_memory_bytes
        with parameter("max_cpu_seconds", SECONDS, self.max_cpu_seconds):
            if seconds := to_duration(self.max_cpu_seconds or None):
                limits.maxCPU.CopyFrom(seconds)
        with parameter("max_open_files", WHOLE_NUMBER, self.max_open_files):
            limits.maxOpenFiles = self.max_open_files
        with parameter("max_processes", WHOLE_NUMBER, self.max_processes):
            limits.maxProcesses = self.max_processes
        return limits


@dataclass(frozen=True)
class LiveUsage:
    """What a running job uses now, with all of its processes: seconds of CPU so far, and resident memory in sum."""

    processes: int
    rss_bytes: int
    user_cpu: float
    system_cpu: float


@dataclass(frozen=True)
class Usage:
    """What a job used: seconds of CPU, and the largest resident set of one of its processes."""

    user_cpu: float = 0.0
    system_cpu: float = 0.0
    max_rss_bytes: int = 0


@dataclass(frozen=True)
class JobRecord:
    """
    A job as the worker knew it when it answered.

    exit_code and signal are valid once the job is done; signal is 0 if it exited by itself. error_text is empty if all
    is well. output_bytes counts what was written so far. shortened: args and labels are truncated, get() has all of
    them. message: the record on the wire, which has all of this and what a newer worker adds.
    """

    id: str
    command: str
    path: str
    args: tuple[str, ...]
    state: JobState
    exit_code: int
    signal: int
    error_text: str
    created_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    output_bytes: int
    output_truncated: bool
    labels: Mapping[str, str] = field(hash=False)
    request_id: str
    usage: Usage
    pid: int
    leftovers_ended: int
    core_dumped: bool
    shortened: bool
    message: pb.Job = field(default_factory=pb.Job, repr=False, compare=False)

    @property
    def done(self) -> bool:
        """Whether the job has ended; then this record is the last one."""
        return self.state in DONE

    @property
    def ok(self) -> bool:
        """Whether the job succeeded."""
        return self.state is JobState.SUCCEEDED

    @property
    def exit_status(self) -> int:
        """As in a shell: the exit code, or 128 + the signal; never 0 if the job is done and not ok."""
        if self.signal:
            return 128 + self.signal
        return self.exit_code or int(self.done and not self.ok)


class JobResult(JobRecord):
    """The last record of a job, which is done."""


def record_of(job: pb.Job) -> JobRecord:
    """The record for a message of the wire; a JobResult if the job is done."""
    state = JobState(job.state)
    kind = JobResult if state in DONE else JobRecord
    return kind(
        id=job.jobID,
        command=job.command,
        path=job.path,
        args=tuple(job.args),
        state=state,
        exit_code=job.exitCode,
        signal=job.signal,
        error_text=job.errorText,
        created_at=_time(job.createdAt) if job.HasField("createdAt") else None,
        started_at=_time(job.startedAt) if job.HasField("startedAt") else None,
        finished_at=_time(job.finishedAt) if job.HasField("finishedAt") else None,
        output_bytes=job.outputBytes,
        output_truncated=job.outputTruncated,
        labels=dict(job.labels),
        request_id=job.requestID,
        usage=Usage(_seconds(job.userCPU), _seconds(job.systemCPU), job.maxRSSBytes),
        pid=job.pid,
        leftovers_ended=job.leftoversEnded,
        core_dumped=job.coreDumped,
        shortened=job.shortened,
        message=job,
    )


def usages_of(answer: pb.JobUsageRes) -> dict[str, LiveUsage]:
    """Usage by job id, from a message of the wire."""
    return {
        usage.jobID: LiveUsage(usage.processes, usage.rssBytes, _seconds(usage.userCPU), _seconds(usage.systemCPU))
        for usage in answer.usages
    }


def to_duration(seconds: float | None) -> Duration | None:
    """
    Seconds as a Duration of the wire; None stays None.

    Raises:
        TypeError: they are not a number.
        ValueError: they are not finite, or longer than a Duration can be.
    """
    if seconds is None:
        return None
    if not isinstance(seconds, (int, float)):
        raise TypeError(f"a time is a number of seconds, not {seconds!r}")
    if not abs(seconds) <= _MOST_SECONDS:
        raise ValueError(
            f"a time of {seconds} seconds cannot be sent: it must be finite; without one there is no limit"
        )
    whole = Duration()
    whole.FromNanoseconds(round(seconds * 1e9))
    return whole


def _time(at: Timestamp) -> datetime:
    return at.ToDatetime(tzinfo=timezone.utc)


def _seconds(duration: Duration) -> float:
    return duration.seconds + duration.nanos / 1e9
