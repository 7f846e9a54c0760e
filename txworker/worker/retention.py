"""Retention: removes finished jobs beyond the configured limits, but none with viewers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred

from txworker.base.logs import Logger
from txworker.base.quantities import counted
from txworker.base.reactor import Clock, Timer
from txworker.jobs import Job, Retention
from txworker.jobs.errors import StoreBroken
from txworker.ports import NO_OBSERVER, Observer, OutputDirectory, Store
from txworker.worker.viewers import Viewers

PAUSE_SECONDS = 30.0
"""The time between two checks, when the last one found nothing more to remove."""

AT_ONCE = 200
"""How many jobs are removed in one step; between two steps the store serves others."""

FOUND = 10 * AT_ONCE
"""The most jobs that one check finds. It reads the whole history: half a second for a million jobs."""


class RetentionService(Service):
    """
    Checks periodically. in_thread(call) makes the call in a thread. now() is the wall clock, for the removal time that
    is shown. elapsed() is the time that jobs are kept by, because the wall clock may be set to anything.

    A job's output is removed before its record: should the worker end in between, the next check finds the record;
    output without a record would never be found.
    """

    _log = Logger()

    def __init__(
        self,
        clock: Clock,
        in_thread: Callable[[Callable[[], Any]], Deferred[Any]],
        store: Store,
        outputs: OutputDirectory,
        viewers: Viewers,
        limits: Retention,
        now: Callable[[], float],
        elapsed: Callable[[], float],
        observer: Observer = NO_OBSERVER,
    ) -> None:
        self._clock = clock
        self._in_thread = in_thread
        self._store = store
        self._outputs = outputs
        self._viewers = viewers
        self._limits = limits
        self._now = now
        self._elapsed = elapsed
        self._observer = observer
        self._timer: Timer | None = None
        self._looking = False

    def startService(self) -> None:
        """Start the checks, if any limit is configured."""
        super().startService()
        self._start_timer()

    def set_limits(self, limits: Retention) -> None:
        """Remove by these limits from now on. Checks at once, unless a check is under way."""
        self._limits = limits
        if self.running and not self._looking:
            self._stop_timer()
            self._start_timer()

    def stopService(self) -> None:
        """Stop the checks; a step that is under way finishes in its thread."""
        super().stopService()
        self._stop_timer()

    def _start_timer(self, seconds: float = 0.0) -> None:
        if self._limits.limited:
            self._timer = self._clock.callLater(seconds, self._look)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        self._looking = True
        Deferred.fromCoroutine(self._step()).addErrback(self._failed).addCallback(self._again)

    async def _step(self) -> bool:
        """Check once and remove what was found; returns whether an immediate next check may find more."""
        found: list[Job] = await self._in_thread(lambda: self._store.expired(self._limits, self._elapsed(), FOUND))
        removed = 0
        for begin in range(0, len(found), AT_ONCE):
            if self.running:
                removed += await self._removed(found[begin : begin + AT_ONCE])
        self._observer.retention_looked(removed)
        return len(found) == FOUND and removed > 0

    async def _removed(self, found: list[Job]) -> int:
        """Remove these jobs except viewed ones; how many were removed."""
        free = self._viewers.claim(job.id for job in found)
        jobs = [job for job in found if job.id in free]
        try:
            await self._in_thread(lambda: self._outputs.remove(job.id for job in jobs))
            if jobs:
                await self._store.remove(jobs, self._now())
                self._log.info("Retention removed {jobs}, {first} to {last}.", **_span(jobs))
        finally:
            self._viewers.release(free)
        return len(jobs)

    def _failed(self, failure: Any) -> bool:
        self._observer.retention_failed()
        if failure.check(StoreBroken, OSError):
            self._log.warn("Retention could remove nothing: {error}.", error=failure.value)
        else:
            self._log.failure("removing jobs", failure)
        return False

    def _again(self, more: bool) -> None:
        self._looking = False
        if self.running:
            self._start_timer(0.0 if more else PAUSE_SECONDS)


def _span(jobs: list[Job]) -> dict[str, Any]:
    return {"jobs": counted(len(jobs), "job", "jobs"), "count": len(jobs), "first": jobs[0].id, "last": jobs[-1].id}
