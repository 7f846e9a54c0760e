"""What the worker needs from the store."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Mapping
from typing import Protocol

from twisted.internet.defer import Deferred

from txworker.jobs import Job, JobSpec, Query, Retention

Check = Callable[[], None] | None
JobGenerator = Generator[Job, None, None]

_NO_LABELS: Mapping[str, str] = {}


class Records(Protocol):
    """
    The jobs' records as they were written last, with shortened specs. Any thread; every method raises StoreBroken.

    A page is a generator that reads job by job and keeps the database busy: iterate over it or close it soon. check()
    is called from time to time during a long read and may raise to abort it.
    """

    def get(self, job_id: str) -> Job | None:
        """The record of that job; None: there is none."""

    def full_spec(self, job_id: str) -> JobSpec | None:
        """The whole spec of that job, without stdin; None: there is no such job."""

    def with_request_id(self, request_id: str) -> Job | None:
        """The job that was started with that request id."""

    def newest_with_path(self, path: str) -> Job | None:
        """The newest finished job that was started with that path."""

    def removed_at(self, job_id: str) -> float | None:
        """When retention removed that job, in seconds since the epoch; None: it did not."""

    def unfinished(self) -> list[Job]:
        """All jobs that were not done when they were written last."""

    def last(self) -> tuple[int, int]:
        """The highest number and the highest revision ever assigned."""

    def finished_page(self, query: Query, before: int, most: int, check: Check = None) -> JobGenerator:
        """Up to `most` finished jobs that the query selects, with numbers below `before`, highest first."""

    def finished_between(
        self, beyond: int, upto: int, most: int, labels: Mapping[str, str] = _NO_LABELS, check: Check = None
    ) -> JobGenerator:
        """Up to `most` finished jobs with these labels and a revision above `beyond` up to `upto`, lowest first."""

    def expired(self, retention: Retention, elapsed: float, most: int) -> list[Job]:
        """Up to `most` finished jobs to remove when World.elapsed() is `elapsed`, the earliest end first."""


class Store(Records, Protocol):
    """Every job in its newest record, kept over restarts. Methods that return a Deferred: reactor thread."""

    def add(self, job: Job) -> Deferred[Job]:
        """
        Write a new job. Fires with it, or with an earlier job that has the same request id; then nothing is written.

        Raises (through the Deferred):
            StoreBroken: nothing can be written now; the job is not kept.
        """

    def save(self, job: Job) -> Deferred[None]:
        """Write a job's newer record. Fires once it is written, however long a full disk delays that, in call order."""

    def drop(self, job: Job) -> Deferred[None]:
        """Remove a job that did not start. Fires once that is written."""

    def remove(self, jobs: Collection[Job], at: float) -> Deferred[None]:
        """Remove these jobs and remember their ids as removed at `at`. Fires once that is written."""

    def settle(self) -> None:
        """Block until everything is written. Only before the reactor runs; raises StoreBroken."""
