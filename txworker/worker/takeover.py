"""
What a new worker does with an earlier worker's unfinished jobs. A pure decision, which Worker.take_over() applies.

Input: the store's unfinished jobs, and what the shim holds. Each job runs on, is lost, or was never started; what the
shim holds beside these is released.
"""

from __future__ import annotations

import errno
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from txworker.jobs import Job, JobState
from txworker.jobs.held_process import HeldProcess

SCARCE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC)
"""What a takeover can lack (ENOSPC: epoll_ctl(2)). The next start may have it, so no job is ended for it."""


@dataclass(frozen=True)
class ShimJobs:
    """
    What the shim knows. held: its jobs, by id. starting: ids of jobs that it is still starting for an earlier worker.
    complete: no other job of an earlier worker has a process, so one that was not started yet never was.
    """

    held: Mapping[str, HeldProcess] = field(default_factory=dict)
    starting: Collection[str] = ()
    complete: bool = False


@dataclass(frozen=True)
class RunsOn:
    """The shim holds the job's process."""

    job: Job
    held: HeldProcess


@dataclass(frozen=True)
class LostJob:
    """
    No process of the job is held, and its exit status is unknown; `text` is its errorText. incomplete: some of its
    output is missing.
    """

    job: Job
    text: str
    incomplete: bool = False


@dataclass(frozen=True)
class Takeover:
    """
    The decision, every unfinished job in exactly one of the first three. never_started: written down, and the earlier
    worker ended before it requested a process. release: what the shim holds of jobs that are finished or unknown.
    """

    run_on: tuple[RunsOn, ...] = ()
    lost: tuple[LostJob, ...] = ()
    never_started: tuple[Job, ...] = ()
    release: tuple[HeldProcess, ...] = ()


def decide(
    unfinished: Sequence[Job], shim: ShimJobs, lost_text: str, unended: Mapping[str, str] | None = None
) -> Takeover:
    """
    The takeover of these jobs. lost_text: why jobs are lost; unended: by job id, which of a lost job's processes could
    not be ended.
    """
    run_on: list[RunsOn] = []
    lost: list[LostJob] = []
    never_started: list[Job] = []
    for job in unfinished:
        held = shim.held.get(job.id)
        if held is not None:
            run_on.append(RunsOn(job, held))
        elif shim.complete and job.state is JobState.PENDING:
            never_started.append(job)
        else:
            lost.append(LostJob(job, joined(lost_text, unended, job.id)))
    known = {job.id for job in unfinished}
    release = tuple(held for job_id, held in shim.held.items() if job_id not in known)
    return Takeover(tuple(run_on), tuple(lost), tuple(never_started), release)


def without_shim(unfinished: Sequence[Job], shim: ShimJobs) -> list[Job]:
    """The unfinished jobs that the shim neither holds nor starts: what is left of them is ended before decide()."""
    return [job for job in unfinished if job.id not in shim.held and job.id not in shim.starting]


def untaken(job: Job, error: OSError, problem: str) -> LostJob:
    """The job could not be taken over, and was ended; problem: which of its processes could not be ended, and why."""
    text = f"lost: it could not be taken over ({error.strerror or error}), so it was ended"
    return LostJob(job, joined(text, {job.id: problem}, job.id), incomplete=True)


def joined(lost_text: str, unended: Mapping[str, str] | None, job_id: str) -> str:
    """A lost job's errorText: lost_text, and which of its processes could not be ended."""
    problem = (unended or {}).get(job_id)
    return f"{lost_text}; {problem}" if problem else lost_text
