"""The HTTP server as a service. Reactor thread."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.error import CannotListenError
from twisted.web.http import NOT_FOUND, OK
from twisted.web.resource import IResource, Resource
from twisted.web.server import Site

from txworker.base.addresses import join_address
from txworker.base.http_limits import LimitedFactory, LimitedRequest
from txworker.base.logs import Logger
from txworker.monitoring.errors import CannotServe
from txworker.monitoring.health import TextPage


class WebServer(Service):
    """
    Serves each resource under its name, and a list of the names at /, unless "" is among them.

    Port 0 means any free port; `address` has the actual one once the service is started.
    """

    _log = Logger()

    def __init__(
        self, reactor: Any, host: str, port: int, resources: Mapping[str, IResource], max_connections: int
    ) -> None:
        self.host = host
        self.port = port
        self._reactor = reactor
        self._factory = LimitedFactory(_QuietSite(_root(resources), reactor), reactor, max_connections)
        self._port: Any = None

    @property
    def address(self) -> str:
        """host:port."""
        return join_address(self.host, self.port)

    def startService(self) -> None:
        """
        Bind and serve.

        Raises:
            CannotServe: the address cannot be bound.
        """
        try:
            self._port = self._reactor.listenTCP(self.port, self._factory, interface=self.host)
        except CannotListenError as error:
            why = getattr(error.socketError, "strerror", None) or error.socketError
            raise CannotServe(f"{self.address}: {why}") from error
        super().startService()
        self.port = self._port.getHost().port
        self._log.info("Metrics and health are on http://{address}/.", address=self.address)

    def stopService(self) -> Deferred[None]:
        """Stop listening and close all connections; fires when that is done, within a second or so."""
        super().stopService()
        port, self._port = self._port, None
        if port is None:
            return succeed(None)
        stopped: Deferred[None] = Deferred.fromCoroutine(self._stop(port))
        return stopped

    async def _stop(self, port: Any) -> None:
        await maybeDeferred(port.stopListening)
        await self._factory.close()


class _QuietSite(Site):
    """A site without an access log, because scrapes and probes come all the time."""

    noisy = False

    def __init__(self, root: Resource, reactor: Any) -> None:
        super().__init__(root, requestFactory=LimitedRequest, timeout=None, reactor=reactor)

    def log(self, request: object) -> None:
        """Twisted: a request is answered."""


class _Root(Resource):
    def getChild(self, path: bytes, request: Any) -> TextPage:
        """Twisted: the page for a name that is not served."""
        return TextPage(lambda: (NOT_FOUND, "not found\n"))


def _root(resources: Mapping[str, IResource]) -> Resource:
    root = _Root()
    names = "".join(f"/{name}\n" for name in resources)
    index: Any = TextPage(lambda: (OK, f"txworker\n\n{names}"))  # an IResource, which mypy does not see
    for name, resource in {"": index, **resources}.items():
        root.putChild(name.encode(), resource)
    return root
