"""A job that is not done, with what is alive of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from txworker.jobs import EndReason, Exit, Job
from txworker.ports import Output, Running

Overdue = Callable[["ActiveJob", EndReason], None]
Hindered = Callable[["ActiveJob", str], None]
Ended = Callable[["ActiveJob", Exit], None]


class ActiveJob:
    """
    Hears its child (ports.Listener): what it prints goes to its output, what becomes of it to overdue(), hindered() and
    ended(), which are given this very object first. `running` is there once it is launched. `ending`: its end is known,
    and being written down. `exited_before`: when it exited, if that was before this worker came.
    `told_grace`: the shortest time that the log has said it was given to end, in seconds.
    `ahead`: by so much its times are ahead of World.elapsed, for as long as it runs.
    """

    __slots__ = (
        "_ended",
        "_hindered",
        "_overdue",
        "ahead",
        "ending",
        "exited_before",
        "job",
        "output",
        "pour",
        "poured",
        "ready",
        "running",
        "told_grace",
        "wrote",
    )
    running: Running

    def __init__(
        self,
        job: Job,
        output: Output,
        overdue: Overdue,
        hindered: Hindered,
        ended: Ended,
    ) -> None:
        self._overdue = overdue
        self._hindered = hindered
        self._ended = ended
        self.job = job
        self.output = output
        self.ready = output.ready
        self.wrote = output.write
        self.pour = output.pour
        self.poured = output.poured
        self.ending = False
        self.told_grace = math.inf
        self.exited_before: float | None = None
        self.ahead = 0.0

    @property
    def now(self) -> Job:
        """As it stands at this moment. Any thread."""
        return replace(self.job, output_bytes=self.output.size, output_truncated=self.output.truncated)

    def overdue(self, reason: EndReason) -> None:
        """A time limit is over; it is being ended."""
        self._overdue(self, reason)

    def end_blocked(self, problem: str) -> None:
        """It is to end and does not."""
        self._hindered(self, problem)

    def ended(self, exit: Exit) -> None:
        """It is over, and nobody is left of it."""
        self._ended(self, exit)
