"""How much the worker has to do now. Any thread."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from txworker.jobs import JobState
from txworker.worker.active_job import ActiveJob


class Load:
    """active: the jobs that were launched, by id; starting: the ids of those that are being launched."""

    def __init__(self, active: Mapping[str, ActiveJob], starting: Mapping[str, object]) -> None:
        self._active = active
        self._starting = starting

    def by_state(self) -> Mapping[JobState, int]:
        """How many unfinished jobs are in each state; a job is PENDING while it is being launched."""
        counted = Counter(active.job.state for active in list(self._active.values()))
        counted[JobState.PENDING] += len(self._starting)
        return counted

    def output_bytes(self) -> int:
        """The output of all unfinished jobs that this worker has recorded, in bytes."""
        return sum(active.output.size - active.output_before for active in list(self._active.values()))

    def truncated(self) -> int:
        """How many unfinished jobs have lost output."""
        return sum(active.output.truncated for active in list(self._active.values()))
