"""Services that start one after another and stop in the opposite order, each waiting for the one before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.application.service import IService, Service
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from zope.interface import implementer

from txworker.base.logs import Logger

Stop = Callable[[], Any]


@implementer(IService)
class Stopping(Service):
    """A step that is only there for the way down; stop() may give a Deferred, which is waited for."""

    def __init__(self, name: str, stop: Stop) -> None:
        self.name = name
        self._stop = stop

    def stopService(self) -> Deferred[None]:
        """Does the step; fires when it is done."""
        super().stopService()
        stopped: Deferred[None] = maybeDeferred(self._stop)
        return stopped


@implementer(IService)
class InOrder(Service):
    """
    Stages of services. Stages start first to last; they stop last to first, those within one stage together.

    MultiService stops all its children at once, but jobs must end before the door through which they are seen closes.
    """

    _log = Logger()

    def __init__(self, stages: Sequence[Sequence[Service]]) -> None:
        self._stages = stages

    def startService(self) -> None:
        """Start every stage; what a service raises goes to the caller."""
        super().startService()
        for stage in self._stages:
            for service in stage:
                service.startService()

    def stopService(self) -> Deferred[None]:
        """Stop every stage; fires when the first-started has stopped. One that fails to stop is logged and passed."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop_all())

    async def _stop_all(self) -> None:
        for stage in reversed(self._stages):
            await gatherResults([self._stop_one(service) for service in stage])

    def _stop_one(self, service: Service) -> Deferred[None]:
        stopped: Deferred[None] = maybeDeferred(service.stopService)
        return stopped.addErrback(lambda failure: self._log.failure("stopping {name}", failure, name=service))
