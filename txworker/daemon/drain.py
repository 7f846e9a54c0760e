"""Draining: no new jobs, goodbye to the scheduler; when the jobs there are have come to their end, the worker ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

from twisted.application.service import Service
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred, succeed
from twisted.internet.error import ReactorNotRunning

from txworker.base.logs import Logger
from txworker.base.reactor import Clock
from txworker.worker.worker import Worker

VIEWERS_SECONDS = 30.0
"""
How long those may go on reading who still read when the last job has ended: a drain is in no hurry, but one who has
stopped reading must not hold it up. What they miss is in the output still, and the next worker streams it.
"""

_LOOK_SECONDS = 0.1


class Drain:
    """announce() says to whoever asks that the worker takes nothing more; over() ends the worker. Reactor thread."""

    _log = Logger()

    def __init__(
        self,
        clock: Clock,
        worker: Worker,
        announce: Callable[[], None],
        goodbyes: Sequence[Service],
        over: Callable[[], None],
    ) -> None:
        self._clock = clock
        self._worker = worker
        self._announce = announce
        self._goodbyes = goodbyes
        self._over = over
        self._begun = False

    def begin(self) -> Deferred[int]:
        """Begin; again is harmless. Fires at once with how many jobs are not done yet."""
        running = len(self._worker.running_ids())
        if self._begun:
            self._log.info("Already draining; jobs still to end: {running}.", running=running)
        else:
            self._begun = True
            self._log.info("Draining: no new jobs; still to end: {running}.", running=running)
            self._announce()
            ended = self._worker.drain()
            said = [self._say(goodbye) for goodbye in self._goodbyes]
            Deferred.fromCoroutine(self._finish(ended, said)).addErrback(
                lambda failure: self._log.failure("draining", failure)
            )
        return succeed(running)

    def _say(self, goodbye: Service) -> Deferred[object]:
        said: Deferred[object] = maybeDeferred(goodbye.stopService)
        return said.addErrback(lambda failure: self._log.failure("saying goodbye", failure))

    async def _finish(self, ended: Deferred[None], said: list[Deferred[object]]) -> None:
        await ended
        self._log.info("Drained: every job has ended.")
        await gatherResults(said)  # or a worker without jobs would be gone before the scheduler has heard of it
        await self._viewers_done()
        with suppress(ReactorNotRunning):  # a signal has ended it already
            self._over()

    async def _viewers_done(self) -> None:
        for _ in range(int(VIEWERS_SECONDS / _LOOK_SECONDS)):
            if not self._worker.catalog.viewers.any:
                break
            pause: Deferred[None] = Deferred()
            self._clock.callLater(_LOOK_SECONDS, pause.callback, None)
            await pause
