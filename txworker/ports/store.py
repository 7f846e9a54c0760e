"""What the worker asks of the store."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Mapping
from typing import Protocol

from twisted.internet.defer import Deferred

from txworker.jobs import Job, JobSpec, Query, Retention

Check = Callable[[], None] | None
Jobs = Generator[Job, None, None]

_NO_LABELS: Mapping[str, str] = {}


class Records(Protocol):
    """
    What can be asked of the store: every job in its record as written last, its order brief. Any thread; raises
    StoreBroken.

    Pages are read job by job, as they are asked for: to be read, or closed, soon. check() is called meanwhile, however
    long that takes, and may raise.
    """

    def get(self, job_id: str) -> Job | None:
        """The record of that job."""

    def full_spec(self, job_id: str) -> JobSpec | None:
        """The whole order of that job, but for its stdin."""

    def with_request_id(self, request_id: str) -> Job | None:
        """The job that was started for that request id."""

    def newest_with_path(self, path: str) -> Job | None:
        """The newest finished job that was started with that path."""

    def removed_at(self, job_id: str) -> float | None:
        """When that job was removed, if it was."""

    def unfinished(self) -> list[Job]:
        """Those that were not done when they were written last."""

    def last(self) -> tuple[int, int]:
        """The highest number and the highest revision that were ever given."""

    def finished_page(self, query: Query, before: int, most: int, check: Check = None) -> Jobs:
        """At most so many finished jobs of those that are meant, with numbers below `before`, highest first."""

    def finished_between(
        self, beyond: int, upto: int, most: int, labels: Mapping[str, str] = _NO_LABELS, check: Check = None
    ) -> Jobs:
        """At most so many jobs, with these labels, whose end has a revision beyond the one and up to the other."""

    def expired(self, retention: Retention, elapsed: float, most: int) -> list[Job]:
        """At most so many finished jobs that are to be kept no longer at that time, the first to have ended first."""


class Store(Records, Protocol):
    """What survives: every job that was taken, in its newest record. Deferreds are the reactor thread's."""

    def add(self, job: Job) -> Deferred[Job]:
        """
        Fires with the job once it is written, or else with the one that the same request id has brought before.

        Raises (through the Deferred):
            StoreBroken: nothing can be written now; the job is not kept.
        """

    def save(self, job: Job) -> Deferred[None]:
        """Fires once it is written, however long that takes; in the order of the calls."""

    def drop(self, job: Job) -> Deferred[None]:
        """Fires once a job that never came to be is gone."""

    def remove(self, jobs: Collection[Job], at: float) -> Deferred[None]:
        """Fires once these jobs are gone, and remembered as removed."""

    def settle(self) -> None:
        """Wait here until all that was put is written. Only before the reactor runs; raises StoreBroken."""
