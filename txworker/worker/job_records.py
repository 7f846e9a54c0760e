"""The jobs' records: the only place that changes a job, and only by after(job, fact)."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from txworker.base.logs import Logger
from txworker.jobs import Exited, Fact, Job, JobSpec, Lost, Settings, after
from txworker.ports import Store, World
from txworker.worker.active_job import ActiveJob
from txworker.worker.change_feed import ChangeFeed


class JobRecords:
    """
    Numbers and revisions continue those that are in the store. feed publishes every change, once it is written.
    Reactor thread.
    """

    _log = Logger()

    def __init__(self, store: Store, world: World) -> None:
        self._store = store
        self._world = world
        self._number, self._revision = store.last()
        self.feed = ChangeFeed(self._revision, world.soon)

    def new(self, spec: JobSpec, settings: Settings) -> Job:
        """A new job, which is not in the store yet."""
        self._number += 1
        revision = self._next_revision()
        return Job(self._world.new_id(), spec, self._world.now(), self._number, revision=revision, settings=settings)

    def learn(self, active: ActiveJob, fact: Fact) -> None:
        """Apply the fact at once, write the record, then publish it."""
        job = after(active.job, fact, self._next_revision())
        if job is not active.job:
            active.job = job
            self._store.save(job).addCallback(lambda _: self.feed.publish(job)).addErrback(self._not_written, job)

    def end(self, job: Job, fact: Exited | Lost, written: Callable[[Job], None] = lambda job: None) -> Job:
        """
        Write the end of a job; returns its last record, which written(job) is called with once it is in the store.

        An end is published only after that, by the caller, because a published end must never be taken back.
        """
        job = after(job, fact, self._next_revision())
        self._store.save(job).addCallback(lambda _: written(job)).addErrback(self._not_written, job)
        return job

    def drop(self, job: Job) -> None:
        """Remove a job that did not start."""
        self._store.drop(job).addErrback(self._not_written, job)

    def settle(self, unfinished: Collection[Job]) -> None:
        """
        Block until everything is written; then the feed starts, with these jobs. Only before the reactor runs.

        Raises:
            StoreBroken: it cannot be written.
        """
        self._store.settle()
        self.feed.start_after(self._revision, unfinished)

    def _next_revision(self) -> int:
        self._revision += 1
        return self._revision

    def _not_written(self, failure: Any, job: Job) -> None:
        text = "Job {job_id} could not be written down as {state}: {error}."
        self._log.error(text, job_id=job.id, state=job.state.name, error=failure.value)
