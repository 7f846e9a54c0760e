"""
A job's record, the facts that change it, and after(), which applies a fact to a record.

This module starts nothing, reads no clock and does not know the wire. To add a field to a job's record: a field of Job
here (and of Exit, when it is a fact about the exit), a column of the same name in store/schema.py, the message in
worker.proto, and a line in rpc/wire/jobs.py.
"""

from __future__ import annotations

import enum
import signal as signals
from dataclasses import dataclass
from typing import Any

from txworker.jobs.errors import WrongState
from txworker.jobs.limits import Limits
from txworker.jobs.spec import JobSpec


class JobState(enum.Enum):
    """The states of a job; the values are those of the enum JobState on the wire and in the store."""

    PENDING = 1
    RUNNING = 2
    STOPPING = 3
    SUCCEEDED = 4
    FAILED = 5
    STOPPED = 6
    TIMED_OUT = 7
    LOST = 8


_NOT_DONE = (JobState.PENDING, JobState.RUNNING, JobState.STOPPING)


class EndReason(enum.Enum):
    """Why a job is ended before it exits by itself. The values are in the store and in the log."""

    REQUESTED = "asked"
    TIMEOUT = "timeout"
    QUIET = "quiet"
    WORKER_STOPPING = "worker stopping"
    UNATTENDED = "unattended"
    LEASE = "lease"


@dataclass(frozen=True)
class Usage:
    """Resource usage of a process and of its descendants that were waited for, as wait4(2) returns it."""

    user_cpu_seconds: float = 0.0
    system_cpu_seconds: float = 0.0
    max_rss_bytes: int = 0


@dataclass(frozen=True)
class Settings:
    """
    What was in force for a job when it was started, by its spec and the worker's configuration.

    directory: the working directory, an absolute path. limits: 0 in a field of it means none. user: jobs.user; empty:
    not configured. A record of an older worker has the defaults.
    """

    directory: str = ""
    limits: Limits = Limits()
    user: str = ""


@dataclass(frozen=True)
class Exit:
    """
    How a job's process exited, and what became of the other processes of the job.

    exit_code, signal: exactly one of them is set.
    leftovers_ended: other processes of the job that the worker ended.
    end_problem: why some of those could not be ended; empty: none is left.

    Job has a field of the same name for each of these.
    """

    exit_code: int | None = None
    signal: int | None = None
    usage: Usage = Usage()
    leftovers_ended: int = 0
    core_dumped: bool = False
    end_problem: str = ""


@dataclass(frozen=True)
class Job:
    """
    A job's record at one moment.

    Times are in seconds since the epoch and only for display. They never run backwards, and their differences are true
    durations, even when the wall clock was set in between.

    id: a UUID.
    number: counts the jobs of this worker, over all restarts; a newer job has a higher one.
    revision: counts the facts about all jobs of this worker, over all restarts; a later record has a higher one.
    pid: of the job's process, and of its session and process group; None: not started.
    started_ticks: the process started no later than this, in clock ticks since boot (proc_pid_stat(5)).
    end_reason: why the job was ended; None: it was not.
    exit_code, signal: one of them is set when the job is done, none when it is LOST.
    output_bytes: bytes written to the output files, of stdout and of stderr together.
    output_truncated: some output is missing: it was beyond a limit, or the disk was full, or the file was changed.
    leftovers_ended: processes that the job left behind and the worker ended.
    lost_text: the error text of a LOST job, empty in other states.
    end_problem: why a process of the job that is to end does not; empty: there is none.
    ended_elapsed: when the job ended, in seconds on World.elapsed(); None: not ended, or recorded by an older version.
    takeovers: how many workers have taken the job over from an earlier one.
    stderr_bytes: of output_bytes, those of a separate stderr; None: it is not separate, or not known before the end.
    """

    id: str
    spec: JobSpec
    created_at: float
    number: int = 0
    state: JobState = JobState.PENDING
    revision: int = 0
    started_at: float | None = None
    finished_at: float | None = None
    pid: int | None = None
    started_ticks: int | None = None
    end_reason: EndReason | None = None
    exit_code: int | None = None
    signal: int | None = None
    usage: Usage = Usage()
    output_bytes: int = 0
    output_truncated: bool = False
    leftovers_ended: int = 0
    lost_text: str = ""
    core_dumped: bool = False
    end_problem: str = ""
    ended_elapsed: float | None = None
    settings: Settings = Settings()
    takeovers: int = 0
    stderr_bytes: int | None = None

    def changed(self, **values: Any) -> Job:
        """
        The same record with these values of its fields. dataclasses.replace() looks up each of the 24, which takes
        seven times as long, and a record is made for every start, end and line that a viewer gets.

        Raises:
            TypeError: there is no field of such a name.
        """
        if not values.keys() <= self.__dict__.keys():
            raise TypeError(f"Job has no {', '.join(sorted(values.keys() - self.__dict__.keys()))}")
        job = object.__new__(Job)
        job.__dict__.update(self.__dict__)
        job.__dict__.update(values)
        return job

    @property
    def done(self) -> bool:
        """Whether the job has ended. A done job never changes again."""
        return self.state not in _NOT_DONE

    @property
    def failed(self) -> bool:
        """Whether the job has ended in any state but SUCCEEDED."""
        return self.done and self.state is not JobState.SUCCEEDED

    @property
    def seconds(self) -> float:
        """How long the job ran, from its start to its end; 0 if it was not started or has not ended."""
        if self.started_at is None or self.finished_at is None:
            return 0.0
        return self.finished_at - self.started_at

    @property
    def error_text(self) -> str:
        """
        Why the job failed: "exit status N" or "signal: NAME", the forms that schedulers know, with a reason when there
        is one. Of a job that is being ended: why it does not end. Empty: no error.
        """
        if not self.failed:
            return "" if self.done else self.end_problem
        if self.state is JobState.LOST:
            return self.lost_text
        text = f"exit status {self.exit_code}" if self.signal is None else f"signal: {signal_name(self.signal)}"
        if self.core_dumped:
            text += " (core dumped)"
        if self.end_problem:
            text += f"; {self.end_problem}"
        if self.end_reason is EndReason.TIMEOUT:
            return f"timed out after {self.spec.timeout_seconds:g} s: {text}"
        if self.end_reason is EndReason.QUIET:
            return f"no output for {self.spec.quiet_timeout_seconds:g} s: {text}"
        if self.end_reason is EndReason.LEASE:
            return f"lease of {self.spec.lease_seconds:g} s ran out: {text}"
        if self.end_reason is EndReason.UNATTENDED:
            return f"no worker for too long (jobs.unattended_seconds): {text}"
        if self.state is JobState.STOPPED and self.exit_code == 0:
            return f"stopped: {text}"  # "exit status 0" alone does not look like an error
        return text


@dataclass(frozen=True)
class Started:
    """The process runs. at: seconds since the epoch. ticks: as Job.started_ticks."""

    at: float
    pid: int
    ticks: int | None = None


@dataclass(frozen=True)
class TakenOver:
    """Another worker has taken the job over from the one before."""


@dataclass(frozen=True)
class EndRequested:
    """The job is being ended. The first reason is kept."""

    reason: EndReason


@dataclass(frozen=True)
class EndBlocked:
    """A process of the job that is to end does not; `text` says why. An empty text: that is over."""

    text: str


@dataclass(frozen=True)
class Exited:
    """The process has exited and all of its output was read. at: seconds since the epoch; elapsed: as ended_elapsed."""

    at: float
    exit: Exit
    output_bytes: int
    output_truncated: bool = False
    elapsed: float | None = None
    stderr_bytes: int | None = None


@dataclass(frozen=True)
class Lost:
    """The exit status cannot be known; `text` says why. at: seconds since the epoch; elapsed: as ended_elapsed."""

    at: float
    text: str
    output_bytes: int
    output_truncated: bool = False
    elapsed: float | None = None
    stderr_bytes: int | None = None


Fact = Started | TakenOver | EndRequested | EndBlocked | Exited | Lost


def after(job: Job, fact: Fact, revision: int) -> Job:
    """
    The job's record after the fact; `revision` is the new record's and must be higher than every earlier one.

    Returns the same object when the fact changes nothing: a second EndRequested, or an EndBlocked with the same text.

    Raises:
        WrongState: the fact is impossible in the job's state.
    """
    match job.state, fact:
        case JobState.PENDING, Started():
            return job.changed(
                state=JobState.RUNNING,
                revision=revision,
                started_at=max(fact.at, job.created_at),
                pid=fact.pid,
                started_ticks=fact.ticks,
            )
        case ((JobState.PENDING | JobState.RUNNING | JobState.STOPPING), TakenOver()):
            return job.changed(revision=revision, takeovers=job.takeovers + 1)
        case JobState.RUNNING, EndRequested():
            return job.changed(state=JobState.STOPPING, revision=revision, end_reason=fact.reason)
        case JobState.STOPPING, EndRequested():
            return job
        case ((JobState.RUNNING | JobState.STOPPING), EndBlocked()):
            return job if job.end_problem == fact.text else job.changed(revision=revision, end_problem=fact.text)
        case ((JobState.RUNNING | JobState.STOPPING), Exited()):
            return _exited(job, fact, revision)
        case ((JobState.PENDING | JobState.RUNNING | JobState.STOPPING), Lost()):
            return _lost(job, fact, revision)
        case _:
            raise WrongState(job.id, job.state, fact)


def _exited(job: Job, fact: Exited, revision: int) -> Job:
    return job.changed(
        state=_end_state(job, fact.exit),
        revision=revision,
        finished_at=_not_before(job, fact.at),
        ended_elapsed=fact.elapsed,
        output_bytes=fact.output_bytes,
        output_truncated=fact.output_truncated,
        exit_code=fact.exit.exit_code,
        signal=fact.exit.signal,
        usage=fact.exit.usage,
        leftovers_ended=fact.exit.leftovers_ended,
        core_dumped=fact.exit.core_dumped,
        end_problem=fact.exit.end_problem,
        stderr_bytes=fact.stderr_bytes,
    )


def _lost(job: Job, fact: Lost, revision: int) -> Job:
    return job.changed(
        state=JobState.LOST,
        revision=revision,
        finished_at=_not_before(job, fact.at),
        ended_elapsed=fact.elapsed,
        lost_text=fact.text,
        output_bytes=fact.output_bytes,
        output_truncated=fact.output_truncated,
        stderr_bytes=fact.stderr_bytes,
    )


def signal_name(number: int) -> str:
    """A signal in the words of Go's syscall.Signal, which schedulers know: "killed", "segmentation fault"."""
    text = signals.strsignal(number) or f"signal {number}"
    return text if text.startswith("CPU") else text[0].lower() + text[1:]


def _not_before(job: Job, at: float) -> float:
    """`at`, but no earlier than the job's start."""
    return max(at, job.created_at if job.started_at is None else job.started_at)


def _end_state(job: Job, exit: Exit) -> JobState:
    if job.end_reason in (EndReason.TIMEOUT, EndReason.QUIET):
        return JobState.TIMED_OUT
    if job.end_reason is not None:
        return JobState.STOPPED
    return JobState.SUCCEEDED if exit.exit_code == 0 else JobState.FAILED
