"""Draining: new jobs are refused, the worker deregisters from the scheduler, and ends when its last job has ended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

from twisted.application.service import Service
from twisted.internet.defer import Deferred, fail, gatherResults, maybeDeferred, succeed
from twisted.internet.error import ReactorNotRunning

from txworker.base.logs import Logger
from txworker.base.reactor import Clock
from txworker.jobs.errors import WorkerStopping
from txworker.worker.worker import Worker

VIEWERS_SECONDS = 30.0
"""
How long viewers may go on reading after the last job has ended. A drain is not urgent, but a viewer that has stopped
reading must not block it; the output stays, and the next worker streams it.
"""

_LOOK_SECONDS = 0.1


class Drain:
    """
    announce() makes health say NOT_SERVING; registrations are stopped, which deregisters; stop() stops the worker;
    stopping(): whether it is being stopped. Reactor thread.
    """

    _log = Logger()

    def __init__(
        self,
        clock: Clock,
        worker: Worker,
        announce: Callable[[], None],
        registrations: Sequence[Service],
        stop: Callable[[], None],
        stopping: Callable[[], bool],
    ) -> None:
        self._clock = clock
        self._worker = worker
        self._announce = announce
        self._registrations = registrations
        self._stop = stop
        self._stopping = stopping
        self.begun = False

    def begin(self) -> Deferred[int]:
        """
        Begin to drain. Fires at once with the number of unfinished jobs. A repeated call is harmless.

        Raises (through the Deferred):
            WorkerStopping: the worker stops already, and does not wait for these jobs.
        """
        running = len(self._worker.running_ids())
        if running and self._stopping():
            error = WorkerStopping(
                f"this worker is stopping already and does not wait for its unfinished jobs ({running})"
            )
            self._log.error("No drain: {error}.", error=error)
            return fail(error)
        if self.begun:
            self._log.info("Already draining; jobs still to end: {running}.", running=running)
        else:
            self.begun = True
            self._log.info("Draining: no new jobs; still to end: {running}.", running=running)
            self._announce()
            ended = self._worker.drain()
            deregistered = [self._deregister(registration) for registration in self._registrations]
            Deferred.fromCoroutine(self._finish(ended, deregistered)).addErrback(
                lambda failure: self._log.failure("draining", failure)
            )
        return succeed(running)

    def _deregister(self, registration: Service) -> Deferred[object]:
        stopped: Deferred[object] = maybeDeferred(registration.stopService)
        return stopped.addErrback(lambda failure: self._log.failure("deregistering from the scheduler", failure))

    async def _finish(self, ended: Deferred[None], deregistered: list[Deferred[object]]) -> None:
        await ended
        self._log.info("Drained: every job has ended.")
        await gatherResults(deregistered)  # a worker without jobs would otherwise end first
        await self._no_viewers()
        with suppress(ReactorNotRunning):  # a signal has stopped it already
            self._stop()

    async def _no_viewers(self) -> None:
        for _ in range(int(VIEWERS_SECONDS / _LOOK_SECONDS)):
            if not self._worker.catalog.viewers.any:
                break
            pause: Deferred[None] = Deferred()
            self._clock.callLater(_LOOK_SECONDS, pause.callback, None)
            await pause
