"""
The feed of job changes for watchers, in the order of their revisions.

Level-triggered: a watcher says up to which revision it knows everything. There is no queue per watcher, so a slow one
costs nothing. The feed holds the last changes; a watcher that is later than those gets the newest record of each job,
and reads from the store the jobs that ended too long ago to be held here. Reactor thread only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from twisted.internet.defer import Deferred

from txworker.base.waiting import Waiters
from txworker.jobs import Job
from txworker.jobs.errors import WorkerStopping

HELD_ENDS = 500
"""How many finished jobs are held for late watchers; earlier ends are read from the store."""

BATCH_JOBS = 100
"""The most jobs in one batch: a watcher that reads nothing keeps no more than these in memory."""

HELD_CHANGES = 1000
"""How many changes are held for watchers that keep up: they get every single change."""


@dataclass(frozen=True)
class ChangeBatch:
    """
    What changed beyond the requested revision, up to revision `upto`. newest: the newest revision there is.

    jobs: oldest change first; either the newest record of each job, or every record. Ends with a
    revision beyond the requested one and up to `in_store_upto` are missing: they are in the store.
    """

    jobs: tuple[Job, ...]
    in_store_upto: int
    upto: int
    newest: int


@dataclass(frozen=True)
class JobChanges:
    """
    What changed of the requested jobs, up to revision `upto`. jobs: every change, oldest first. Where the changes are
    no longer held, `jobs` is empty and `late` has the ids of the jobs to look up instead.
    """

    jobs: list[Job]
    late: list[str]
    upto: int


class ChangeFeed:
    """
    soon(call) schedules a call for the next reactor turn, so that many changes wake the watchers once. Changes up to
    revision `known` are in the store only.
    """

    def __init__(self, known: int, soon: Callable[[Callable[[], None]], object]) -> None:
        self._soon = soon
        self._newest: dict[str, Job] = {}
        self._ended: deque[str] = deque()
        self._last: deque[Job] = deque()
        self._last_beyond = known  # every change beyond that revision is in _last
        self._in_store_upto = known
        self._upto = known
        self._started_after = known
        self._watchers = Waiters()
        self._waking = False
        self._closed = False

    def start_after(self, known: int, unfinished: Iterable[Job] = ()) -> None:
        """
        Changes up to that revision are in the store only, but for the present records of the unfinished jobs, which are
        not read from there. To be called before the first watcher.
        """
        self._newest = {job.id: job for job in sorted(unfinished, key=lambda job: job.revision)}
        self._in_store_upto = self._upto = self._last_beyond = self._started_after = known

    def publish(self, job: Job) -> None:
        """
        Add a job's new record, which is in the store already. Revisions must come in ascending order. A record that
        start_after() knew may come late, and is ignored.
        """
        if job.revision <= self._started_after:
            return
        self._newest.pop(job.id, None)
        self._newest[job.id] = job
        self._upto = job.revision
        self._last.append(job)
        if len(self._last) > HELD_CHANGES:
            self._last_beyond = self._last.popleft().revision
        if job.done:
            self._ended.append(job.id)
            if len(self._ended) > HELD_ENDS:
                self._in_store_upto = self._newest.pop(self._ended.popleft()).revision
        if self._watchers and not self._waking:
            self._waking = True
            self._soon(self._wake)

    def since(self, beyond: int, each: bool = False) -> Deferred[ChangeBatch]:
        """
        Fires when something changed beyond that revision, with the newest record of each changed job; with `each`, and
        while the feed holds them, with every single change.

        Cancelling removes only this waiter.

        Raises (through the Deferred):
            WorkerStopping: nothing will change any more.
        """
        each = each or self._upto <= beyond  # the watcher is up to date: all that comes is a change
        return self._watchers.until(lambda: self._upto > beyond or self._closed).addCallback(
            lambda _: self._batch_beyond(beyond, each)
        )

    def of(self, known: Mapping[str, int], upto: int = 0) -> Deferred[JobChanges]:
        """
        Fires when some of these jobs have changed beyond their known revisions. Cancelling removes only this waiter.

        upto: JobChanges.upto of the answer before this one.

        Raises (through the Deferred):
            WorkerStopping: nothing will change any more.
        """
        if not self._any_beyond(known):
            upto = self._upto
        return self._watchers.until(lambda: self._closed or self._any_beyond(known)).addCallback(
            lambda _: self._changes_of(known, upto)
        )

    def close(self) -> None:
        """End the feed: every waiting watcher fails with WorkerStopping."""
        self._closed = True
        self._watchers.wake()

    def _any_beyond(self, known: Mapping[str, int]) -> bool:
        return any(self._is_beyond(job_id, revision) for job_id, revision in known.items())

    def _is_beyond(self, job_id: str, revision: int) -> bool:
        """A job that is not held here either has not been published yet, or ended long ago."""
        job = self._newest.get(job_id)
        return job.revision > revision if job is not None else self._in_store_upto > revision

    def _changes_of(self, known: Mapping[str, int], upto: int) -> JobChanges:
        if not self._any_beyond(known):
            raise WorkerStopping
        if upto >= self._last_beyond:
            changes = [job for job in self._last_changes(upto) if job.revision > known.get(job.id, job.revision)]
            batch = changes[:BATCH_JOBS]
            return JobChanges(batch, [], self._upto if batch == changes else batch[-1].revision)
        late = [job_id for job_id, revision in known.items() if self._is_beyond(job_id, revision)]
        return JobChanges([], late, self._upto)

    def _wake(self) -> None:
        self._waking = False
        self._watchers.wake()

    def _last_changes(self, beyond: int) -> list[Job]:
        return _beyond(beyond, reversed(self._last))

    def _batch_beyond(self, beyond: int, each: bool) -> ChangeBatch:
        if self._closed and self._upto <= beyond:
            raise WorkerStopping
        if each and beyond >= self._last_beyond:
            return self._batch(self._last_changes(beyond), beyond)
        return self._batch(_beyond(beyond, reversed(self._newest.values())), self._in_store_upto)

    def _batch(self, jobs: list[Job], in_store_upto: int) -> ChangeBatch:
        """All these jobs; or the first BATCH_JOBS, and then the store's only up to the last one's revision."""
        if len(jobs) <= BATCH_JOBS:
            return ChangeBatch(tuple(jobs), in_store_upto, self._upto, self._upto)
        first = jobs[:BATCH_JOBS]
        upto = first[-1].revision
        return ChangeBatch(tuple(first), min(in_store_upto, upto), upto, self._upto)


def _beyond(revision: int, newest_first: Iterator[Job]) -> list[Job]:
    """The jobs with a higher revision, oldest first."""
    jobs: list[Job] = []
    for job in newest_first:
        if job.revision <= revision:
            break
        jobs.append(job)
    jobs.reverse()
    return jobs
