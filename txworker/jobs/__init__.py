"""What a job is: values and pure functions, usable from any thread."""

from txworker.jobs.brief import Cut
from txworker.jobs.job import (
    EndAsked,
    EndHindered,
    EndReason,
    Exit,
    Exited,
    Fact,
    Job,
    JobState,
    Lost,
    Started,
    Usage,
    after,
)
from txworker.jobs.limits import Limits
from txworker.jobs.loss import Loss
from txworker.jobs.query import Query, Retention
from txworker.jobs.spec import MARK, JobSpec

__all__ = [
    "MARK",
    "Cut",
    "EndAsked",
    "EndHindered",
    "EndReason",
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
    "Started",
    "Usage",
    "after",
]
