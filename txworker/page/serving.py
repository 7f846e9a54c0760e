"""Puts the page together and listens: the composition root of this room. Reactor thread only."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import TCP4ServerEndpoint, TCP6ServerEndpoint
from twisted.internet.error import CannotListenError
from twisted.web.http import Request
from twisted.web.server import Site

from txworker.base.addresses import join_address
from txworker.base.http_limits import LimitedFactory, LimitedRequest
from txworker.base.logs import begin_logging
from txworker.client.tx import TwistedClient
from txworker.page.access import Access
from txworker.page.event_stream import MOST_STREAMS, OpenStreams
from txworker.page.guard import Guard
from txworker.page.page_resource import PageResource
from txworker.page.place import Place, WrongPlace
from txworker.page.routes import Routes
from txworker.page.samples import Samples
from txworker.page.static_files import static_files
from txworker.page.table import JobTable
from txworker.page.values import PageWorker
from txworker.page.worker_link import WorkerLink

MOST_CONNECTIONS = 2 * MOST_STREAMS
"""The most over all browsers; a further one takes the place of one that is idle, or is closed."""

DEADLINE_SECONDS = 5.0
"""How long a worker may take to answer a call."""


class QuietSite(Site):
    """A site without an access log: changes and failures are logged where they happen."""

    noisy = False

    def __init__(self, page: PageResource, reactor: Any) -> None:
        super().__init__(page, requestFactory=LimitedRequest, timeout=None, reactor=reactor)

    def log(self, request: Request) -> None:
        """Twisted: a request is answered."""


@dataclass
class Page:
    """A page that is not served yet. `resource` may also be served by another Site."""

    resource: PageResource
    streams: OpenStreams
    links: list[WorkerLink] = field(default_factory=list)

    def start(self) -> None:
        """Connect to the workers."""
        for link in self.links:
            link.start()

    def stop(self) -> Deferred[Any]:
        """
        End the event streams, then disconnect from the workers; fires when all calls have ended.

        The streams end first: a browser must not take the end of the page's own calls for the end of a job's output.
        """
        self.streams.close()
        return gatherResults([link.stop() for link in self.links])


def page_of(
    reactor: Any,
    workers: Sequence[PageWorker],
    hosts: set[str],
    allow_stop: bool,
    now: Callable[[], float] = time.time,
    most_streams: int = MOST_STREAMS,
) -> Page:
    """
    The page of these workers, served under these host names, with `most_streams` event streams at once at most.

    Raises:
        OSError: a TLS file of a worker cannot be read.
        ValueError: it is not a PEM file.
    """
    jobs, samples, access = JobTable(), Samples(), Access(allow_stop)
    links = [WorkerLink(reactor, worker, _client(reactor, worker), jobs, samples, now) for worker in workers]
    routes = Routes(reactor, now, links, jobs, samples, access, most_streams)
    resource = PageResource(Guard(hosts), access, static_files(), routes.seen, routes.changes)
    return Page(resource, routes.streams, links)


async def listening(reactor: Any, page: Page, place: Place) -> Any:
    """
    Listen, and connect to the workers; returns Twisted's port.

    Raises:
        WrongPlace: the address cannot be bound, or a TLS file is wrong.
    """
    site = LimitedFactory(QuietSite(page.resource, reactor), reactor, MOST_CONNECTIONS)
    try:
        port = await _endpoint(reactor, place).listen(_with_tls(place, site))
    except CannotListenError as error:
        why = getattr(error.socketError, "strerror", None) or error.socketError
        raise WrongPlace(f"cannot listen on {place.host}:{place.port}: {why}") from error
    page.start()
    return port


def serve(
    reactor: Any, workers: Sequence[PageWorker], place: Place, allow_stop: bool, ready: Callable[[str], None]
) -> None:
    """
    Serve until SIGINT or SIGTERM; runs the reactor. ready(url) is called once browsers can connect.

    Raises:
        WrongPlace: the page cannot be served there.
        OSError, ValueError: a TLS file of a worker cannot be used.
    """
    place.check()
    page = page_of(reactor, workers, place.hosts, allow_stop)
    problems: list[BaseException] = []

    async def begin() -> None:
        port = await listening(reactor, page, place)
        ready(url_of(place, port.getHost().port))

    def stop_with_problem(failure: Any) -> None:
        problems.append(failure.value)
        reactor.stop()

    reactor.callWhenRunning(lambda: Deferred.fromCoroutine(begin()).addErrback(stop_with_problem))
    reactor.addSystemEventTrigger("before", "shutdown", page.stop)
    reactor.run()
    if problems:
        raise problems[0]


def serve_alone(workers: Sequence[PageWorker], place: Place, allow_stop: bool, ready: Callable[[str], None]) -> None:
    """
    As serve(), in a process that does nothing else: by Twisted's default reactor, with the log on stderr.
    """
    place.check()  # a mistake is reported before there is a log
    begin_logging(sys.stderr)
    reactor = import_module("twisted.internet.reactor")  # importing it installs it
    serve(reactor, workers, place, allow_stop, ready)


def url_of(place: Place, port: int) -> str:
    """The URL to open."""
    return f"{'https' if place.cert else 'http'}://{join_address(place.host, port)}/"


def _client(reactor: Any, worker: PageWorker) -> TwistedClient:
    return TwistedClient(
        reactor, worker.addr, tls=worker.tls, patience=0.0, deadline=DEADLINE_SECONDS, tell=lambda _: None
    )


def _endpoint(reactor: Any, place: Place) -> Any:
    if ":" in place.host:
        return TCP6ServerEndpoint(reactor, place.port, interface=place.host)
    host = "127.0.0.1" if place.host == "localhost" else place.host
    return TCP4ServerEndpoint(reactor, place.port, interface=host)


def _with_tls(place: Place, site: LimitedFactory) -> Any:
    """The site, wrapped in TLS if there are files for it."""
    if not place.cert:
        return site
    try:
        tls = import_module("txworker.page.tls")  # only here: it needs the extra
    except ImportError as error:
        raise WrongPlace("TLS needs pyOpenSSL: pip install 'txworker[page-tls]'") from error
    return tls.with_tls(place, site)
