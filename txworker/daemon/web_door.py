"""
The HTTP door, with the metrics and the pages that tell of health; and where the metrics are read.

Imported only if [web] is configured: a worker without it needs neither prometheus-client nor Twisted's web server.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from twisted.application.service import Service

from txworker.config import Config, Web
from txworker.daemon.descriptors import WEB_CONNECTIONS
from txworker.daemon.doors import Doors
from txworker.daemon.lifetime import StagedServices
from txworker.daemon.processes import Processes
from txworker.daemon.reload import RunningConfig
from txworker.daemon.timers import LagWatch
from txworker.daemon.version import own_version
from txworker.monitoring.health import livez, readyz
from txworker.monitoring.metrics import Metrics, MetricsThreads
from txworker.monitoring.reading import ShimReadings, Sources
from txworker.monitoring.server import WebServer
from txworker.ports import Observer
from txworker.worker.readiness import CAUSES, Readiness
from txworker.worker.worker import Worker

if TYPE_CHECKING:
    from txworker.daemon.page_door import PageDoor


class WebDoor:
    """
    observer counts from the beginning; the pages are made when all other parts are there. page: a service to be started
    when the worker serves; None: web.page is not configured.
    """

    def __init__(self, config: Web, reactor: Any) -> None:
        self._config = config
        self._reactor = reactor
        self._metrics = Metrics()
        self.observer: Observer = self._metrics.observer
        self.page: PageDoor | None = None

    def services(
        self,
        running: RunningConfig,
        worker: Worker,
        doors: Doors,
        readiness: Readiness,
        processes: Processes,
        identity: tuple[str, int],
    ) -> list[Service]:
        """The server and what it needs, not started. identity: the worker's name and instance."""
        counted = self._metrics.observer
        self._metrics.read(
            sources(running, worker, lambda: counted.output_finished, doors, readiness, processes, identity)
        )
        if self._config.page:
            self.page = _page(self._reactor, running.config, identity[0])
        threads = MetricsThreads(self._reactor, self._metrics.registry)
        pages: dict[str, Any] = {"metrics": threads.page, "livez": livez(), "readyz": readyz(lambda: readiness.reasons)}
        if self.page is not None:
            pages["page"] = self.page.resource
        lag = LagWatch(self._reactor, self.observer.turned)
        server = WebServer(self._reactor, self._config.host, self._config.port, pages, WEB_CONNECTIONS)
        return [StagedServices([[threads], [lag, server]])]


def sources(
    running: RunningConfig,
    worker: Worker,
    output_finished: Callable[[], int],
    doors: Doors,
    readiness: Readiness,
    processes: Processes,
    identity: tuple[str, int],
) -> Sources:
    """Where each metric that is read comes from."""
    server, certificate, registration = doors.server, doors.certificate, doors.registration
    return Sources(
        jobs=lambda: {state.name: count for state, count in worker.load.by_state().items()},
        output_bytes=worker.load.output_bytes,
        output_finished=output_finished,
        truncated=worker.load.truncated,
        max_running=lambda: running.config.jobs.max_running,
        streams=lambda: server.load.streams,
        max_streams=running.config.grpc_server.max_streams,
        threads=lambda: server.load.threads,
        calls_waiting=lambda: server.load.calls_waiting,
        reasons=lambda: readiness.reasons,
        causes=CAUSES,
        shim=_shim(processes),
        registered=None if registration is None else lambda: registration.registered,
        certificate_expiry=None if certificate is None else lambda: certificate.expires_at,
        name=identity[0],
        instance=identity[1],
        build=build(),
    )


def _page(reactor: Any, config: Config, name: str) -> PageDoor:
    from txworker.daemon.page_door import PageDoor  # not before: a worker without it needs no client library

    return PageDoor(reactor, config.jobs.state_directory, name, config.web.host, WEB_CONNECTIONS // 2)


def build() -> Mapping[str, str]:
    """The versions that a report of a defect needs."""
    return {
        "version": own_version(),
        "python": platform.python_version(),
        "twisted": version("twisted"),
        "grpcio": version("grpcio"),
    }


def _shim(processes: Processes) -> ShimReadings | None:
    shim = processes.shim
    if shim is None:
        return None
    return ShimReadings(lambda: shim.alive, lambda: shim.connection.job_count, taken_over=shim.taken_over)
