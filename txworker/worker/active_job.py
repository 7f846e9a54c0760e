"""An unfinished job: its record, its running process and its open output."""

from __future__ import annotations

import math
from collections.abc import Callable

from txworker.jobs import EndReason, Exit, Job
from txworker.ports import Output, Running

Overdue = Callable[["ActiveJob", EndReason], None]
EndBlocked = Callable[["ActiveJob", str], None]
Ended = Callable[["ActiveJob", Exit], None]


class ActiveJob:
    """
    The listener (ports.Listener) of its process; the events go to overdue(), end_blocked() and ended(), with this
    object as first argument.

    running: set once the process is launched. ending: the end is known and is being written. left: it runs on without
    this worker, which records no more of its output. exited_before: when the
    process exited, if that was before this worker started. logged_grace: the shortest grace period in the log so far,
    in seconds. output_before: the bytes of output that an earlier worker recorded. ahead: the difference between the
    job's own clock and World.elapsed, constant while it runs.
    """

    __slots__ = (
        "_end_blocked",
        "_ended",
        "_overdue",
        "ahead",
        "ending",
        "exited_before",
        "job",
        "left",
        "logged_grace",
        "output",
        "output_before",
        "running",
    )
    running: Running

    def __init__(
        self,
        job: Job,
        output: Output,
        overdue: Overdue,
        end_blocked: EndBlocked,
        ended: Ended,
    ) -> None:
        self._overdue = overdue
        self._end_blocked = end_blocked
        self._ended = ended
        self.job = job
        self.output = output
        self.output_before = output.size
        self.ending = self.left = False
        self.logged_grace = math.inf
        self.exited_before: float | None = None
        self.ahead = 0.0

    @property
    def now(self) -> Job:
        """The record with the output written so far. Any thread."""
        return self.with_output(self.job)

    @property
    def stderr_bytes(self) -> int | None:
        """The bytes written to a separate stderr so far; None: there is none."""
        return self.output.recorded(stderr=True) if self.job.spec.separate_stderr else None

    def with_output(self, job: Job) -> Job:
        """A record of the job, perhaps an earlier one, with the output written so far. Any thread."""
        size, truncated = self.output.size, self.output.truncated
        if size == job.output_bytes and truncated == job.output_truncated:
            return job  # as when a job was started just now
        return job.changed(output_bytes=size, output_truncated=truncated)

    def overdue(self, reason: EndReason) -> None:
        """A time limit has expired; the job is being ended."""
        self._overdue(self, reason)

    def end_blocked(self, problem: str) -> None:
        """The job is being ended and does not end."""
        self._end_blocked(self, problem)

    def ended(self, exit: Exit) -> None:
        """The process exited, and no process of the job is left."""
        self._ended(self, exit)
