"""Services that start one after another and stop in reverse order, each waiting for the one before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.application.service import IService, Service
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from zope.interface import implementer

from txworker.base.logs import Logger


@implementer(IService)
class StopStep(Service):
    """A step of the shutdown only. stop() may return a Deferred, which is waited for."""

    def __init__(self, name: str, stop: Callable[[], Any]) -> None:
        self.name = name
        self._stop = stop

    def stopService(self) -> Deferred[None]:
        """Take the step; fires when it is done."""
        super().stopService()
        stopped: Deferred[None] = maybeDeferred(self._stop)
        return stopped


@implementer(IService)
class StagedServices(Service):
    """
    Stages of services, which start first to last and stop last to first. Those within one stage stop together.

    MultiService stops all its children at once, but jobs must end before the server that streams their output closes.
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
        """Stop every stage; fires when the first stage has stopped. A service that fails to stop is logged only."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop_all())

    async def _stop_all(self) -> None:
        for stage in reversed(self._stages):
            await gatherResults([self._stop_one(service) for service in stage])

    def _stop_one(self, service: Service) -> Deferred[None]:
        stopped: Deferred[None] = maybeDeferred(service.stopService)
        return stopped.addErrback(lambda failure: self._log.failure("stopping {name}", failure, name=service))
