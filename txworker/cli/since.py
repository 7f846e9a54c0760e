"""How much of a job's output was printed since a time, as far as that is known: output has no times. Pure functions."""

from __future__ import annotations

import enum
from datetime import datetime, timezone

from txworker.client import JobRecord


class Printed(enum.Enum):
    """How much of a job's output was printed since."""

    ALL = enum.auto()
    """It started later."""
    NOTHING = enum.auto()
    """It was done before."""
    UNKNOWN = enum.auto()
    """It was running at that time."""


def printed_since(job: JobRecord, since: datetime) -> Printed:
    """A time without a zone is local."""
    since = since.astimezone(timezone.utc)
    if job.finished_at is not None and job.finished_at < since:
        return Printed.NOTHING
    began = job.started_at or job.created_at
    return Printed.ALL if began is None or began >= since else Printed.UNKNOWN


def cannot_tell(job: JobRecord, since: datetime) -> str:
    """The sentence for UNKNOWN."""
    at = since.astimezone(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")
    return (
        f"job {job.id} was running at {at}, and the worker does not record when a byte was printed: "
        "here is all of its output (--tail: the last lines)"
    )
