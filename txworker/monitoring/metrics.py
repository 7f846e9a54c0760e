"""The page /metrics, in the exposition formats of Prometheus."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector, disable_created_metrics, make_wsgi_app
from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.python.threadpool import ThreadPool
from twisted.web.wsgi import WSGIResource

from txworker.monitoring.counting import CountingObserver
from txworker.monitoring.instruments import Instruments
from txworker.monitoring.reading import Sources, add_readings

THREADS = 2
"""How many threads answer scrapes. Not the reactor's: all of those may wait for a disk that does not respond."""


class Metrics:
    """A registry with the metrics of one worker. observer counts from now on. now() is the wall clock, in seconds."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        disable_created_metrics()  # a second series for each counter, which would only tell when the worker started
        self.registry = CollectorRegistry(auto_describe=True)  # for a scrape of some names: /metrics?name[]=…
        self.instruments = Instruments(self.registry)
        self.observer = CountingObserver(self.instruments, now)
        ProcessCollector(registry=self.registry)

    def read(self, sources: Sources) -> None:
        """Add the metrics that are read at each scrape. Call it once."""
        add_readings(self.instruments, sources)


class MetricsThreads(Service):
    """
    The threads that answer scrapes, and the page that they render.

    Like prometheus_client.twisted.MetricsResource, which uses the reactor's own threads.
    """

    def __init__(self, reactor: Any, registry: CollectorRegistry) -> None:
        self._reactor = reactor
        self._threads = ThreadPool(0, THREADS, "txworker-web")
        self.page = WSGIResource(reactor, self._threads, _with_head(make_wsgi_app(registry)))

    def startService(self) -> None:
        """Start the threads."""
        super().startService()
        self._threads.start()

    def stopService(self) -> Deferred[None]:
        """
        End the threads. Fires when the scrapes under way are answered, which takes milliseconds.

        Another thread waits for them, because they need the reactor. Stop the server first: a later request fails.
        """
        super().stopService()
        if not self._threads.started:
            return succeed(None)
        stopped: Deferred[None] = Deferred()

        def stop_threads() -> None:
            self._threads.stop()
            self._reactor.callFromThread(stopped.callback, None)

        threading.Thread(target=stop_threads, name="txworker-web-stop", daemon=True).start()
        return stopped


def _with_head(app: Callable[..., Any]) -> Callable[..., Any]:
    """The app, which knows only GET, for HEAD as well; Twisted omits the body of a response to HEAD."""

    def answer_head_as_get(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        head = environ["REQUEST_METHOD"] == "HEAD"
        return app({**environ, "REQUEST_METHOD": "GET"} if head else environ, start_response)

    return answer_head_as_get
