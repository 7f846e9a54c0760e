"""Limits of HTTP connections: how many there are, how long a request takes to come, how large it is. And HEAD."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import connectionDone
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.web.server import Request

from txworker.base.reactor import Clock, Timer
from txworker.base.waiting import Waiters

REQUEST_SECONDS = 10.0
"""From the first byte of a request to the first of its answer. Twisted's own limit starts again with each byte."""

IDLE_SECONDS = 60.0
"""How long a connection without a request stays open; scrapers and probes come several times a minute."""

MAX_BODY_BYTES = 64 * 1024
"""The largest body of a request. Twisted writes larger ones to the disk."""

CLOSING_SECONDS = 1.0
"""How long answers under way may take when the server stops."""


class LimitedConnection(ProtocolWrapper):
    """
    A connection that is cut when a request that has begun is not answered in time, and closed when no request comes.

    answering: a request is complete, and its answer is not. idle_since: when a request last began, or the connection.
    """

    _timer: Timer | None = None
    _idle_timer: Timer | None = None
    _lost = False
    answering = False
    idle_since = 0.0

    @property
    def idle(self) -> bool:
        """No request is under way."""
        return self._timer is None and not self.answering and not self.disconnecting

    def connectionMade(self) -> None:
        """Twisted: it is open."""
        factory: Any = self.factory
        self.idle_since = factory.clock.seconds()
        super().connectionMade()
        self._await_request()

    def dataReceived(self, data: bytes) -> None:
        """Twisted: a part of a request has come."""
        factory: Any = self.factory
        self.idle_since = factory.clock.seconds()
        self._stop_idle_timer()
        if self._timer is None:
            self._timer = factory.clock.callLater(REQUEST_SECONDS, self._late)
        super().dataReceived(data)

    def answered(self) -> None:
        """The answer to a request is complete, or never will be."""
        self.answering = False
        self._await_request()

    def write(self, data: bytes) -> None:
        """Twisted: a part of an answer is sent."""
        self._written()
        super().write(data)

    def writeSequence(self, data: Any) -> None:
        """Twisted: as write()."""
        self._written()
        super().writeSequence(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Twisted: it is closed."""
        self._lost = True
        self._stop_timer()
        self._stop_idle_timer()
        super().connectionLost(reason)

    def _written(self) -> None:
        self._stop_timer()
        if not self.answering:  # 100 Continue, or a refusal of what is not a request
            self._await_request()

    def _await_request(self) -> None:
        factory: Any = self.factory
        self._stop_idle_timer()
        if not self._lost:
            self._idle_timer = factory.clock.callLater(IDLE_SECONDS, self._unused)

    def _unused(self) -> None:
        """As Twisted's own limit does it, which writes a line of the log for each connection."""
        factory: Any = self.factory
        self._idle_timer = None
        self.loseConnection()
        if self._timer is None and not self._lost:  # a client may not read what is left to be sent
            self._timer = factory.clock.callLater(REQUEST_SECONDS, self._late)

    def _stop_idle_timer(self) -> None:
        timer, self._idle_timer = self._idle_timer, None
        if timer is not None:
            timer.cancel()

    def _late(self) -> None:
        self._timer = None
        self.abortConnection()

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()


class LimitedFactory(WrappingFactory):
    """
    Makes the connections of a site, max_connections at a time at most. A further one takes the place of the one that
    has been idle for longest, so that idle clients do not shut out others; if none is idle, it is closed.
    """

    protocol = LimitedConnection
    noisy = False  # no log line when it starts

    def __init__(self, site: Any, clock: Clock, max_connections: int) -> None:
        super().__init__(site)
        self._max_connections = max_connections
        self.clock = clock
        self._gone = Waiters()
        self._cutting: Timer | None = None

    def logPrefix(self) -> str:
        """Twisted: the name in its own log lines."""
        return "txworker.http"

    def buildProtocol(self, addr: IAddress | None) -> ProtocolWrapper | None:  # type: ignore[override]  # as Factory's
        """Twisted: the protocol of a new connection; None: it is closed."""
        if len(self.protocols) >= self._max_connections and not self._made_room():
            return None
        return super().buildProtocol(addr)

    def unregisterProtocol(self, p: ProtocolWrapper) -> None:
        """Twisted: that connection is closed."""
        super().unregisterProtocol(p)
        self._gone.wake()

    def close(self) -> Deferred[None]:
        """Close all connections once their answers are sent; fires when none is left, in CLOSING_SECONDS about."""
        if not self.protocols:
            return succeed(None)
        for connection in list(self.protocols):
            connection.loseConnection()
        self._cutting = self.clock.callLater(CLOSING_SECONDS, self._cut)
        return self._gone.until(lambda: not self.protocols).addCallback(self._closed)

    def _made_room(self) -> bool:
        """One at a time, because it still has its descriptor until the reactor turns."""
        if len(self.protocols) > self._max_connections:
            return False
        idle = min(filter(_is_idle, self.protocols), key=lambda connection: connection.idle_since, default=None)
        if idle is None:
            return False
        idle.abortConnection()
        return True

    def _closed(self, _: None) -> None:
        cutting, self._cutting = self._cutting, None
        if cutting is not None:
            cutting.cancel()

    def _cut(self) -> None:
        self._cutting = None
        for connection in list(self.protocols):
            connection.abortConnection()


class LimitedRequest(Request):
    """A request on a LimitedConnection. Its body has a limit; one of unknown length is refused as well."""

    def gotLength(self, length: int | None) -> None:
        """Twisted: the length of the body, None: it is chunked."""
        super().gotLength(0 if length is None else min(length, MAX_BODY_BYTES))
        if length is None or length > MAX_BODY_BYTES:
            status = b"411 Length Required" if length is None else b"413 Content Too Large"
            self.channel.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            self.channel.loseConnection()

    def process(self) -> None:
        """Twisted: the request is complete."""
        connection: Any = self.channel.transport
        connection.answering = True

        self.notifyFinish().addBoth(lambda _: connection.answered())
        super().process()


def body_for(request: Request, body: bytes) -> bytes:
    """
    What a resource's render() returns for that body: to HEAD nothing, with the body's length among the headers. Twisted
    would do the same, with a line of the log for each such request.
    """
    if request.method != b"HEAD":
        return body
    request.setHeader(b"content-length", str(len(body)).encode())
    return b""


def _is_idle(connection: LimitedConnection) -> bool:
    return connection.idle
