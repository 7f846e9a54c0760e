"""What a job is: immutable values and pure functions, which any thread may use."""

from txworker.jobs.job import (
    EndBlocked,
    EndReason,
    EndRequested,
    Exit,
    Exited,
    Fact,
    Job,
    JobState,
    Lost,
    Settings,
    Started,
    TakenOver,
    Usage,
    after,
)
from txworker.jobs.limits import Limits
from txworker.jobs.loss import Loss
from txworker.jobs.query import Query, Retention
from txworker.jobs.shortening import Cut
from txworker.jobs.spec import JOB_ID_VARIABLE, JobSpec

__all__ = [
    "JOB_ID_VARIABLE",
    "Cut",
    "EndBlocked",
    "EndReason",
    "EndRequested",
    "Exit",
    "Exited",
    "Fact",
    "Job",
    "JobSpec",
    "JobState",
    "Limits",
    "Loss",
    "Lost",
    "Query",
    "Retention",
    "Settings",
    "Started",
    "TakenOver",
    "Usage",
    "after",
]
