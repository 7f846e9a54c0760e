"""What the worker asks of whatever runs jobs' processes, and what it is told by it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from txworker.jobs import EndReason, Exit, JobSpec
from txworker.jobs.held_process import HeldProcess


class Listener(Protocol):
    """Who hears what becomes of a child: one of the worker's for each job."""

    def ready(self, child_fd: int) -> bool:
        """It has begun to print: whether that can be taken now. Otherwise it is asked again a moment later."""

    def wrote(self, child_fd: int, data: bytes) -> None:
        """It printed."""

    def pour(self, child_fd: int, fd: int, most: int) -> int:
        """It prints a lot, into pipe `fd`: as Output.pour. One call at a time, and never beside wrote()."""

    def poured(self, child_fd: int) -> None:
        """Something was poured; reactor thread."""

    def overdue(self, reason: EndReason) -> None:
        """A time limit is over; it is being ended."""

    def end_blocked(self, problem: str) -> None:
        """It is to end and does not, as that says: it may not be signalled, or the kernel cannot end it."""

    def ended(self, exit: Exit) -> None:
        """The process exited, all of its output was handed over, and no other process of the job is left."""


class Running(Protocol):
    """A child that was started."""

    @property
    def pid(self) -> int:
        """Its process id, which is also that of its session and process group."""

    def note_start(self, at: float) -> None:
        """When it was started, as clients are told: the next worker is to tell them the same."""

    def stop(self, grace_seconds: float) -> None:
        """TERM now, KILL after that grace period. Again is harmless."""

    def resume_stop(self, kill_at: float | None) -> None:
        """It was asked to end by an earlier worker: KILL is due then (monotonic clock); None: at once."""

    def exited(self, how: Any) -> None:
        """It had exited before this worker came (HeldProcess.exit)."""

    def release(self) -> None:
        """Its end is written down; its number may be given to another process."""

    def leave(self) -> Deferred[None]:
        """The worker ends and it runs on. Fires when nothing of its output is being copied here any more."""

    def abandon(self) -> Deferred[None]:
        """Its exit will never be known. Fires when what it printed is written down."""


class Launcher(Protocol):
    """Starts children."""

    def check(self, spec: JobSpec) -> None:
        """Raises InvalidRequest: no process can be made of that order, whatever there is on the machine."""

    async def launch(
        self, job_id: str, spec: JobSpec, listener: Listener, check: Callable[[], None] = lambda: None
    ) -> Running:
        """
        Start the order's process, or raise TxWorkerError and leave nothing behind. May be waited for.

        check() is called last thing before the process is asked for, perhaps again: what it raises is raised here.
        """

    def take_over(self, job_id: str, spec: JobSpec, listener: Listener, held: HeldProcess) -> Running:
        """The process of a job that an earlier worker has started; raises OSError."""
