"""Draining: no new jobs, goodbye to the scheduler; when the jobs there are have come to their end, the worker ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from txworker.worker import Worker


class Drain:
    """announce() says to whoever asks that the worker takes nothing more; over() ends the worker. Reactor thread."""

    _log = Logger()

    def __init__(
        self, worker: Worker, announce: Callable[[], None], goodbyes: Sequence[Service], over: Callable[[], None]
    ) -> None:
        self._worker = worker
        self._announce = announce
        self._goodbyes = goodbyes
        self._over = over
        self._begun = False

    def begin(self) -> Deferred[int]:
        """Begin; again is harmless. Fires at once with how many jobs are not done yet."""
        running = len(self._worker.running_ids())
        if not self._begun:
            self._begun = True
            self._log.info("Draining: no new jobs; {running} are still to end.", running=running)
            self._announce()
            for service in self._goodbyes:
                service.stopService()
            self._worker.drain().addCallback(self._drained)
        return succeed(running)

    def _drained(self, _: object) -> None:
        self._log.info("Drained: every job has ended.")
        self._over()
