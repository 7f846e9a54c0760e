"""What the worker needs from the room that runs processes, and what that room reports to the worker."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from txworker.jobs import EndReason, Exit, JobSpec
from txworker.jobs.held_process import HeldProcess
from txworker.jobs.live_usage import LiveUsage, RunningProcess
from txworker.ports.output import OutputWriter
from txworker.ports.store import Check


class Listener(Protocol):
    """Receives the events of one job's process. Reactor thread."""

    def overdue(self, reason: EndReason) -> None:
        """The process passed a time limit and is being ended."""

    def end_blocked(self, problem: str) -> None:
        """The process does not end; `problem` says why: it must not be signalled, or the kernel cannot end it."""

    def ended(self, exit: Exit) -> None:
        """The process exited, all of its output is written, and no other process of the job is left."""


class Stdin(Protocol):
    """The standard input of a job that was started with feed. Reactor thread."""

    @property
    def taken(self) -> int:
        """How many bytes of feed() are in the pipe, or will be unless the job closes its input."""

    @property
    def is_open(self) -> bool:
        """Whether the job can be fed."""

    def feed(self, data: bytes, end: bool) -> Deferred[int]:
        """
        Feed these bytes behind all earlier ones, and then close the input if `end`. Fires when they are in the pipe,
        with how many are: fewer when the input is closed. Cancelling stops only the waiting once they are handed over.

        Raises (through the Deferred):
            OSError: they cannot be handed over; nothing was.
        """

    def closed(self) -> Deferred[None]:
        """Fires when the input is closed: by feed(), by the job, or because the job is over."""


class Running(Protocol):
    """A process that was started. Reactor thread."""

    @property
    def pid(self) -> int:
        """The id of the process, and of its session and process group."""

    @property
    def started_at(self) -> float:
        """The start time by the clock that launch() was given, in seconds since the epoch."""

    @property
    def cgroup(self) -> str | None:
        """The directory of the job's cgroup; None: it has none. Any thread."""

    @property
    def stdin(self) -> Stdin | None:
        """Its standard input; None: it was not started with feed."""

    def stop(self, grace_seconds: float, reason: EndReason = EndReason.REQUESTED) -> None:
        """
        Send TERM now, and KILL after the grace period. A second call can only shorten the grace period.

        reason: the job's, for the next worker, should this one end before it is in the store.
        """

    def resume_stop(self, kill_at: float | None, reason: EndReason) -> None:
        """
        Continue a stop by an earlier worker: send KILL at kill_at (seconds, monotonic clock); None: at once.

        reason: as for stop().
        """

    def signal(self, number: int) -> None:
        """
        Send that signal to the process group, and do nothing else.

        Raises:
            ProcessExitedAlready: the process has exited and its group is gone.
            PermissionError: no process of the group may be signalled.
        """

    def renew_lease(self) -> None:
        """Count the job's lease from now; nothing, when it has none or is being ended."""

    def resize(self, rows: int, columns: int) -> None:
        """
        Give the terminal of a job with tty that size.

        Raises:
            ProcessExitedAlready: the process has exited.
        """

    def exited(self, how: Mapping[str, Any]) -> None:
        """The process exited before this worker took it over; `how` is HeldProcess.exit."""

    def release(self) -> None:
        """The end is in the store: the process may be reaped, which frees its pid."""

    def leave(self) -> Deferred[None]:
        """Let the process run on without this worker. Fires when the worker no longer copies its output."""

    def abandon(self) -> Deferred[Exit | None]:
        """
        Give the process up: its shim has ended. The listener is told nothing more. Fires when its output so far is
        written, with its exit; None: it had not exited, so that cannot be known.
        """


class LiveUsages(Protocol):
    """Reads what running jobs use."""

    def read(self, running: Sequence[RunningProcess], check: Check = None) -> list[LiveUsage]:
        """
        The usage of each of these jobs, in their order. Any thread but the reactor's; takes seconds at most.

        check() is called from time to time and may raise.

        Raises:
            OutOfResources: the machine is too busy to tell.
        """


class Launcher(Protocol):
    """Starts processes. Reactor thread."""

    def check(self, spec: JobSpec) -> None:
        """Raises InvalidRequest when no machine could start a process from that spec."""

    async def launch(
        self,
        job_id: str,
        spec: JobSpec,
        output: OutputWriter,
        listener: Listener,
        check: Callable[[], None] = lambda: None,
        now: Callable[[], float] = time.time,
    ) -> Running:
        """
        Start a process for the job; its output goes to `output`.

        check() is called immediately before the process is requested, possibly more than once and in another thread.
        now() is the time by the job's clock, in seconds since the epoch; it advances with the clock since boot.

        Raises:
            TxWorkerError: the process could not be started; nothing is left of it.
            Exception: whatever check() raises; nothing was started.
        """

    def take_over(
        self, job_id: str, spec: JobSpec, output: OutputWriter, listener: Listener, held: HeldProcess
    ) -> Running:
        """Take over a process that an earlier worker started. Raises OSError: its pipes cannot be watched."""
