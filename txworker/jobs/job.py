"""
What can happen to a job: its record at one moment, the facts that become known, and what may follow what.

Nothing here knows of processes, files, clocks or the wire.
"""

from __future__ import annotations

import enum
import signal as signals
from dataclasses import dataclass, replace

from txworker.jobs.errors import WrongState
from txworker.jobs.spec import JobSpec


class JobState(enum.Enum):
    """Where a job stands; the values are the numbers on the wire."""

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
    """Why the worker ends a job; nobody has to guess it from a signal afterwards."""

    REQUESTED = "asked"
    TIMEOUT = "timeout"
    QUIET = "quiet"
    WORKER_STOPPING = "worker stopping"
    UNATTENDED = "unattended"


@dataclass(frozen=True)
class Usage:
    """The kernel's accounting of a child and of its descendants that were waited for (getrusage(2))."""

    user_cpu_seconds: float = 0.0
    system_cpu_seconds: float = 0.0
    max_rss_bytes: int = 0


@dataclass(frozen=True)
class Exit:
    """
    How a job's process exited, once no process of the job is left. Exactly one of exit_code and signal is set.

    leftovers_ended: how many other processes of the job had to be ended. end_problem: why some of them could not be;
    empty: none is left. Job has a field of the same name for each of these.
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
    A job at one moment. Times are seconds since the epoch, for showing only; they are in order, and what lies between
    them is what has passed, however the wall clock was set meanwhile. ended_elapsed: when it ended, in time that only
    passes (World.elapsed); None of jobs of workers that did not know it.

    number counts the orders that this worker took, over all its restarts; revision counts the facts about all of its
    jobs, so of two records the later one has the higher revision, whosever they are. started_ticks: no later than
    that, in clock ticks since boot, was the process started (proc_pid_stat(5)). end_problem: why a process of it that
    is to end does not.
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

    @property
    def done(self) -> bool:
        """Nothing more will happen to it."""
        return self.state not in _NOT_DONE

    @property
    def failed(self) -> bool:
        """It is done, and not by ending well on its own."""
        return self.done and self.state is not JobState.SUCCEEDED

    @property
    def error_text(self) -> str:
        """
        Why it failed, in the two forms that schedulers know, if need be with a reason; or why it does not end, though
        it is being stopped. Empty when there is nothing of the kind.
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
        if self.end_reason is EndReason.UNATTENDED:
            return f"no worker for too long (jobs.unattended_seconds): {text}"
        if self.state is JobState.STOPPED and self.exit_code == 0:
            return f"stopped: {text}"  # else it would read as if the job had failed by ending well
        return text


@dataclass(frozen=True)
class Started:
    """Its process runs."""

    at: float
    pid: int
    ticks: int | None = None


@dataclass(frozen=True)
class EndRequested:
    """The worker is ending it; the first reason counts."""

    reason: EndReason


@dataclass(frozen=True)
class EndBlocked:
    """It is to end and does not, for the reason that the text says; empty: that is over."""

    text: str


@dataclass(frozen=True)
class Exited:
    """Its process has exited and its output is drained."""

    at: float
    exit: Exit
    output_bytes: int
    output_truncated: bool = False
    elapsed: float | None = None


@dataclass(frozen=True)
class Lost:
    """The worker that ran it died; how it ended will never be known."""

    at: float
    text: str
    output_bytes: int
    output_truncated: bool = False
    elapsed: float | None = None


Fact = Started | EndRequested | EndBlocked | Exited | Lost


def after(job: Job, fact: Fact, revision: int) -> Job:
    """
    The job as it stands once the fact is known; `revision` is that of the fact, beyond every earlier one.

    A reason to end that comes after another, or what hinders it told again, changes nothing: the job that is given
    comes back.

    Raises:
        WrongState: the fact makes no sense in this state; nothing changed.
    """
    match job.state, fact:
        case JobState.PENDING, Started():
            return replace(
                job,
                state=JobState.RUNNING,
                revision=revision,
                started_at=max(fact.at, job.created_at),
                pid=fact.pid,
                started_ticks=fact.ticks,
            )
        case JobState.RUNNING, EndRequested():
            return replace(job, state=JobState.STOPPING, revision=revision, end_reason=fact.reason)
        case JobState.STOPPING, EndRequested():
            return job
        case ((JobState.RUNNING | JobState.STOPPING), EndBlocked()):
            return job if job.end_problem == fact.text else replace(job, revision=revision, end_problem=fact.text)
        case ((JobState.RUNNING | JobState.STOPPING), Exited()):
            return _exited(job, fact, revision)
        case ((JobState.PENDING | JobState.RUNNING | JobState.STOPPING), Lost()):
            return _lost(job, fact, revision)
        case _:
            raise WrongState(job.id, job.state, fact)


def _exited(job: Job, fact: Exited, revision: int) -> Job:
    return replace(
        job,
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
    )


def _lost(job: Job, fact: Lost, revision: int) -> Job:
    return replace(
        job,
        state=JobState.LOST,
        revision=revision,
        finished_at=_not_before(job, fact.at),
        ended_elapsed=fact.elapsed,
        lost_text=fact.text,
        output_bytes=fact.output_bytes,
        output_truncated=fact.output_truncated,
    )


def signal_name(number: int) -> str:
    """A signal as schedulers know it from the existing worker: "killed", "terminated", "segmentation fault"."""
    text = signals.strsignal(number) or f"signal {number}"
    return text if text.startswith("CPU") else text[0].lower() + text[1:]


def _not_before(job: Job, at: float) -> float:
    """An end, which is never shown before its beginning."""
    return max(at, job.created_at if job.started_at is None else job.started_at)


def _end_state(job: Job, exit: Exit) -> JobState:
    if job.end_reason in (EndReason.TIMEOUT, EndReason.QUIET):
        return JobState.TIMED_OUT
    if job.end_reason is not None:
        return JobState.STOPPED
    return JobState.SUCCEEDED if exit.exit_code == 0 else JobState.FAILED
