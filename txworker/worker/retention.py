"""Removing finished jobs that are to be kept no longer: their output, then their record. Never one being looked at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred

from txworker.base.logs import Logger
from txworker.base.reactor import Clock, Timer
from txworker.jobs import Job
from txworker.jobs import Retention as Wanted
from txworker.jobs.errors import StoreBroken
from txworker.ports import Shelf, Store
from txworker.worker.viewers import Viewers

PAUSE_SECONDS = 30.0
"""Between looks, when there was nothing more to remove."""

AT_ONCE = 200
"""Jobs that are removed together; then others have their turn."""

FOUND = 10 * AT_ONCE
"""Jobs of one look: it counts the whole history, which takes half a second when that is a million jobs."""


class RetentionService(Service):
    """
    Looks again and again. in_thread(call) makes a call in a thread and gives its Deferred; now() is the wall clock, for
    showing; elapsed() is what jobs are kept by, for the wall clock may be set to anything.

    Output goes first: were the worker to end in between, a record without output would be found and removed the
    next time, but nobody would ever find output without a record.
    """

    _log = Logger()

    def __init__(
        self,
        clock: Clock,
        in_thread: Callable[[Callable[[], Any]], Deferred[Any]],
        store: Store,
        shelf: Shelf,
        viewers: Viewers,
        wanted: Wanted,
        now: Callable[[], float],
        elapsed: Callable[[], float],
    ) -> None:
        self._clock = clock
        self._in_thread = in_thread
        self._store = store
        self._shelf = shelf
        self._viewers = viewers
        self._wanted = wanted
        self._now = now
        self._elapsed = elapsed
        self._timer: Timer | None = None

    def startService(self) -> None:
        """Begin to look, when anything is ever to be removed."""
        super().startService()
        if self._wanted.limited:
            self._timer = self._clock.callLater(0, self._look)

    def stopService(self) -> None:
        """Look no more; a step that is under way is finished in its thread."""
        super().stopService()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        Deferred.fromCoroutine(self._step()).addErrback(self._failed).addCallback(self._again)

    async def _step(self) -> bool:
        """One look and what follows from it; whether the next one may find more."""
        found: list[Job] = await self._in_thread(lambda: self._store.expired(self._wanted, self._elapsed(), FOUND))
        removed = 0
        for begin in range(0, len(found), AT_ONCE):
            if self.running:
                removed += await self._removed(found[begin : begin + AT_ONCE])
        return len(found) == FOUND and removed > 0

    async def _removed(self, found: list[Job]) -> int:
        """How many of these could go."""
        free = self._viewers.claim(job.id for job in found)
        jobs = [job for job in found if job.id in free]
        try:
            await self._in_thread(lambda: self._shelf.remove(job.id for job in jobs))
            if jobs:
                await self._store.remove(jobs, self._now())
                self._log.info("Retention removed {count} jobs, {first} to {last}.", **_span(jobs))
        finally:
            self._viewers.release(free)
        return len(jobs)

    def _failed(self, failure: Any) -> bool:
        if failure.check(StoreBroken, OSError):
            self._log.warn("Retention could remove nothing: {error}.", error=failure.value)
        else:
            self._log.failure("removing jobs", failure)
        return False

    def _again(self, more: bool) -> None:
        if self.running:
            self._timer = self._clock.callLater(0 if more else PAUSE_SECONDS, self._look)


def _span(jobs: list[Job]) -> dict[str, Any]:
    return {"count": len(jobs), "first": jobs[0].id, "last": jobs[-1].id}
