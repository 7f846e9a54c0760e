"""
Which jobs have changed, for those who watch: each change, in the order in which it became known.

Level, not edge: a watcher says up to which revision it knows everything. One that reads slowly costs nothing here: the
last changes are held, and one that comes back later gets the newest record of each job; what ended so long ago that
it is not held here any more, it reads from the store. Reactor thread only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from twisted.internet.defer import Deferred

from txworker.base.waiting import Waiters
from txworker.jobs import Job
from txworker.jobs.errors import WorkerStopping

ENDED_HELD = 500
"""So many finished jobs are held for watchers that are late; the rest read the store."""

TOLD_AT_ONCE = 100
"""So many jobs one answer has at most: a watcher that reads nothing holds up no more."""

CHANGES_HELD = 1000
"""So many changes are held for watchers that keep up: they are told of each."""


@dataclass(frozen=True)
class Changed:
    """
    What changed beyond the revision that was asked for, up to revision `upto`; newest: of all that there was.

    jobs: oldest change first; the newest record of each job, or each of its records. Finished jobs whose end has a
    revision beyond the one asked for and up to `in_store_upto` are not among them.
    """

    jobs: tuple[Job, ...]
    in_store_upto: int
    upto: int
    newest: int


@dataclass(frozen=True)
class ChangedOf:
    """
    What changed of some jobs. jobs: each change, oldest first; or, where those are not held any more, late: which jobs
    are to be looked up. Up to revision `upto` everything is known then.
    """

    jobs: list[Job]
    late: list[str]
    upto: int


class Changes:
    """
    soon(call) makes a call a moment later, so that watchers are woken once for many changes. Everything up to
    revision `known` is in the store only.
    """

    def __init__(self, known: int, soon: Callable[[Callable[[], None]], object]) -> None:
        self._soon = soon
        self._newest: dict[str, Job] = {}
        self._ended: deque[str] = deque()
        self._last: deque[Job] = deque()
        self._last_beyond = known  # every change beyond that revision is in _last
        self._in_store_upto = known
        self._upto = known
        self._watchers = Waiters()
        self._waking = False
        self._closed = False

    def skip(self, known: int) -> None:
        """Everything up to that revision is in the store only. Before anything is told, or anybody watches."""
        self._in_store_upto = self._upto = self._last_beyond = known

    def tell(self, job: Job) -> None:
        """This is how a job stands now, and it is written down. Revisions must come in their order."""
        self._newest.pop(job.id, None)
        self._newest[job.id] = job
        self._upto = job.revision
        self._last.append(job)
        if len(self._last) > CHANGES_HELD:
            self._last_beyond = self._last.popleft().revision
        if job.done:
            self._ended.append(job.id)
            if len(self._ended) > ENDED_HELD:
                self._in_store_upto = self._newest.pop(self._ended.popleft()).revision
        if self._watchers and not self._waking:
            self._waking = True
            self._soon(self._wake)

    def since(self, beyond: int, each: bool = False) -> Deferred[Changed]:
        """
        Fires when something changed beyond that revision, with how the jobs stand then, or each change if it is held.

        Cancelling leaves alone.

        Raises (through the Deferred):
            WorkerStopping: nothing will change any more.
        """
        each = each or self._upto <= beyond  # there is nothing that stands: all that comes are changes
        return self._watchers.until(lambda: self._upto > beyond or self._closed).addCallback(
            lambda _: self._changed(beyond, each)
        )

    def of(self, known: Mapping[str, int], upto: int = 0) -> Deferred[ChangedOf]:
        """
        Fires when some of these jobs have changed beyond the revisions that are known of them. Cancelling leaves alone.

        upto: what an earlier answer said.

        Raises (through the Deferred):
            WorkerStopping: nothing will change any more.
        """
        if not self._any_beyond(known):
            upto = self._upto
        return self._watchers.until(lambda: self._closed or self._any_beyond(known)).addCallback(
            lambda _: self._changes_of(known, upto)
        )

    def close(self) -> None:
        """No more changes will come; every watcher is told."""
        self._closed = True
        self._watchers.wake()

    def _any_beyond(self, known: Mapping[str, int]) -> bool:
        return any(self._is_beyond(job_id, revision) for job_id, revision in known.items())

    def _is_beyond(self, job_id: str, revision: int) -> bool:
        """A job that is not held here has either not been told of yet, or ended long ago."""
        job = self._newest.get(job_id)
        return job.revision > revision if job is not None else self._in_store_upto > revision

    def _changes_of(self, known: Mapping[str, int], upto: int) -> ChangedOf:
        if not self._any_beyond(known):
            raise WorkerStopping
        if upto >= self._last_beyond:
            changes = [job for job in self._last_changes(upto) if job.revision > known.get(job.id, job.revision)]
            told = changes[:TOLD_AT_ONCE]
            return ChangedOf(told, [], self._upto if told == changes else told[-1].revision)
        late = [job_id for job_id, revision in known.items() if self._is_beyond(job_id, revision)]
        return ChangedOf([], late, self._upto)

    def _wake(self) -> None:
        self._waking = False
        self._watchers.wake()

    def _last_changes(self, beyond: int) -> list[Job]:
        return _beyond(beyond, reversed(self._last))

    def _changed(self, beyond: int, each: bool) -> Changed:
        if self._closed and self._upto <= beyond:
            raise WorkerStopping
        if each and beyond >= self._last_beyond:
            return self._part(self._last_changes(beyond), beyond)
        return self._part(_beyond(beyond, reversed(self._newest.values())), self._in_store_upto)

    def _part(self, jobs: list[Job], in_store_upto: int) -> Changed:
        """All of it, or as many as may be told at once, and then what is in the store up to there."""
        if len(jobs) <= TOLD_AT_ONCE:
            return Changed(tuple(jobs), in_store_upto, self._upto, self._upto)
        told = jobs[:TOLD_AT_ONCE]
        upto = told[-1].revision
        return Changed(tuple(told), min(in_store_upto, upto), upto, self._upto)


def _beyond(revision: int, newest_first: Iterator[Job]) -> list[Job]:
    """Those with a higher revision, oldest first."""
    jobs: list[Job] = []
    for job in newest_first:
        if job.revision <= revision:
            break
        jobs.append(job)
    jobs.reverse()
    return jobs
