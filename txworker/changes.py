"""
Which jobs have changed, for those who watch: the newest record of each, in the order in which it became known.

Level, not edge: a watcher says up to which revision it knows everything. One that reads slowly costs nothing here; it
gets the newest record of each job when it comes back, and what ended so long ago that it is not held here any more,
it reads from the store. Reactor thread only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from twisted.internet.defer import Deferred

from txworker.jobs import Job
from txworker.jobs.errors import WorkerStopping
from txworker.waiting import Waiters

ENDED_HELD = 500
"""So many finished jobs are held for watchers that keep up; the rest read the store."""


@dataclass(frozen=True)
class Changed:
    """
    What changed beyond the revision that was asked for, up to revision `upto`.

    jobs: oldest change first. Finished jobs whose end has a revision beyond the one asked for and up to
    `in_store_upto` are not among them.
    """

    jobs: tuple[Job, ...]
    in_store_upto: int
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
        self._in_store_upto = known
        self._upto = known
        self._watchers = Waiters()
        self._waking = False
        self._closed = False

    def skip(self, known: int) -> None:
        """Everything up to that revision is in the store only. Before anything is told, or anybody watches."""
        self._in_store_upto = self._upto = known

    def tell(self, job: Job) -> None:
        """This is how a job stands now, and it is written down. Revisions must come in their order."""
        self._newest.pop(job.id, None)
        self._newest[job.id] = job
        self._upto = job.revision
        if job.done:
            self._ended.append(job.id)
            if len(self._ended) > ENDED_HELD:
                self._in_store_upto = self._newest.pop(self._ended.popleft()).revision
        if self._watchers and not self._waking:
            self._waking = True
            self._soon(self._wake)

    def since(self, beyond: int) -> Deferred[Changed]:
        """
        Fires when something changed beyond that revision. Cancelling leaves alone.

        Raises (through the Deferred):
            WorkerStopping: nothing will change any more.
        """
        return self._watchers.until(lambda: self._upto > beyond or self._closed).addCallback(
            lambda _: self._changed(beyond)
        )

    def of(self, known: Mapping[str, int]) -> Deferred[None]:
        """
        Fires when one of these jobs has changed beyond the revision that is known of it. Cancelling leaves alone.

        Raises (through the Deferred):
            WorkerStopping: nothing will change any more.
        """
        return self._watchers.until(lambda: self._closed or self._any_beyond(known)).addCallback(
            lambda _: self._still_open(known)
        )

    def close(self) -> None:
        """No more changes will come; every watcher is told."""
        self._closed = True
        self._watchers.wake()

    def _any_beyond(self, known: Mapping[str, int]) -> bool:
        """A job that is not held here has either not been told of yet, or ended long ago."""
        for job_id, revision in known.items():
            job = self._newest.get(job_id)
            if job.revision > revision if job is not None else self._in_store_upto > revision:
                return True
        return False

    def _still_open(self, known: Mapping[str, int]) -> None:
        if not self._any_beyond(known):
            raise WorkerStopping

    def _wake(self) -> None:
        self._waking = False
        self._watchers.wake()

    def _changed(self, beyond: int) -> Changed:
        if self._closed and self._upto <= beyond:
            raise WorkerStopping
        jobs = []
        for job in reversed(self._newest.values()):
            if job.revision <= beyond:
                break
            jobs.append(job)
        return Changed(tuple(reversed(jobs)), self._in_store_upto, self._upto)
