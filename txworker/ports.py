"""What the worker asks of the world, as narrow as it asks it; service.py hands the real ones in."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

from twisted.internet.defer import Deferred

from txworker.jobs import EndReason, Job, JobSpec, Usage


class Output(Protocol):
    """All that one job prints."""

    @property
    def size(self) -> int:
        """Bytes written down so far. Any thread."""

    @property
    def truncated(self) -> bool:
        """Something was dropped. Any thread."""

    def write(self, child_fd: int, data: bytes) -> None:
        """Bytes that came out of the child's descriptor 1 or 2."""

    def pour(self, child_fd: int, data: memoryview) -> None:
        """The same from a thread, at times when nobody else writes; poured() tells who waits."""

    def poured(self, child_fd: int) -> None:
        """Something was poured."""

    def more(self, beyond: int, stderr: bool) -> Deferred[None]:
        """Fires when there is a byte at or after offset `beyond`, or nothing more will come."""

    def close(self) -> None:
        """Nothing more will come."""

    def discard(self) -> None:
        """The job never was: leave no file."""


class Shelf(Protocol):
    """Which output belongs to which job."""

    def create(self, job_id: str, separate_stderr: bool, max_bytes: int) -> Output:
        """New, empty output that takes so many bytes, 0: all. Raises OSError; then no file is left."""

    def path(self, job_id: str, stderr: bool) -> Path:
        """Where it is. Any thread."""


class Listener(Protocol):
    """Who hears what becomes of a child: one of the worker's for each job."""

    def wrote(self, child_fd: int, data: bytes) -> None:
        """It printed."""

    def pour(self, child_fd: int, data: memoryview) -> None:
        """It prints a lot; called in a thread, one call at a time and never beside wrote()."""

    def poured(self, child_fd: int) -> None:
        """Something was poured; reactor thread."""

    def overdue(self, reason: EndReason) -> None:
        """A time limit is over; it is being ended."""

    def ended(self, exit_code: int | None, signal: int | None, usage: Usage, leftovers_ended: int) -> None:
        """It exited, its output is drained and nobody is left of it; so many others had to be ended for that."""


class Running(Protocol):
    """A child that was started."""

    @property
    def pid(self) -> int:
        """Its process id, which is also that of its session and process group."""

    @property
    def stop(self) -> Callable[[float], None]:
        """Ends it: TERM now, KILL after that grace period in seconds. Again is harmless."""


class Launcher(Protocol):
    """Starts children."""

    def launch(self, job_id: str, spec: JobSpec, listener: Listener) -> Running:
        """Start the order's process, or raise TxWorkerError and leave nothing behind."""


class Store(Protocol):
    """What survives; keeps the newest record of each job."""

    def save(self, job: Job) -> Deferred[None]:
        """Fires when the record is where it survives what the store promises to survive."""

    def get(self, job_id: str) -> Job | None:
        """The record of that job. Any thread."""

    def newest_with_path(self, path: str) -> Job | None:
        """The newest job started with that path. Any thread."""

    def with_request_id(self, request_id: str) -> Job | None:
        """The job that was started for that request id. Any thread."""

    def jobs(self) -> Iterable[Job]:
        """Every record there is, oldest first."""
