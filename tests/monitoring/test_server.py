"""The HTTP server's limits and pages, with connections in memory and a fake clock."""

from __future__ import annotations

from typing import Any
from unittest import mock

from twisted.internet.error import CannotListenError
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from txworker.base.http_limits import IDLE_SECONDS, MAX_BODY_BYTES, REQUEST_SECONDS
from txworker.monitoring.errors import CannotServe
from txworker.monitoring.health import livez, readyz
from txworker.monitoring.server import WebServer

MAX_CONNECTIONS = 3


class Transport(StringTransport):
    """Knows how it was closed; a client that does not read keeps it from closing in order."""

    aborted = False
    stalled = False

    def __init__(self) -> None:
        super().__init__()
        self.lost: list[Any] = []

    def loseConnection(self) -> None:
        super().loseConnection()
        if not self.stalled:
            self._close()

    def abortConnection(self) -> None:
        self.aborted = True
        self._close()

    def _close(self) -> None:
        lost, self.lost = self.lost, []
        for call in lost:
            call(None)


class Waiting(Resource):
    """Leaves its requests unanswered."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[Any] = []

    def render_GET(self, request: Any) -> int:
        """Twisted: the answer comes later."""
        self.requests.append(request)
        return NOT_DONE_YET


class WebServerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.reasons: dict[str, str] = {}
        pages: dict[str, Any] = {"livez": livez(), "readyz": readyz(lambda: self.reasons)}
        self.server = WebServer(self.reactor, "127.0.0.1", 30001, pages, MAX_CONNECTIONS)
        self.server.startService()
        self.factory: Any = self.reactor.tcpServers[0][1]

    def connect(self) -> tuple[Any, Transport]:
        protocol = self.factory.buildProtocol(None)
        transport = Transport()
        if protocol is not None:
            transport.lost.append(protocol.connectionLost)
            protocol.makeConnection(transport)
        return protocol, transport

    def ask(self, request: bytes) -> tuple[int, str]:
        """Status and body of the answer."""
        protocol, transport = self.connect()
        protocol.dataReceived(request + b"\r\nHost: h\r\nConnection: close\r\n\r\n")
        head, _, body = transport.value().partition(b"\r\n\r\n")
        return int(head.split()[1]), body.decode()

    def test_pages(self) -> None:
        """Each page is served under its name, and / lists them; the method must be GET or HEAD."""
        self.assertEqual((200, "ok\n"), self.ask(b"GET /livez HTTP/1.1"))
        self.assertEqual((200, "ok\n"), self.ask(b"GET /readyz HTTP/1.1"))
        self.assertEqual((200, "txworker\n\n/livez\n/readyz\n"), self.ask(b"GET / HTTP/1.1"))
        self.assertEqual((200, ""), self.ask(b"HEAD /readyz HTTP/1.1"))
        for missing in (b"/<b>", b"/livez/x", b"/readyz//x"):
            self.assertEqual((404, "not found\n"), self.ask(b"GET " + missing + b" HTTP/1.1"))
        self.assertEqual((200, "ok\n"), self.ask(b"GET /livez/ HTTP/1.1"))
        self.assertEqual((405, "GET or HEAD\n"), self.ask(b"DELETE /readyz HTTP/1.1"))

    def test_head(self) -> None:
        """A probe by HEAD gets the length of the body, and leaves no line in the log."""
        with capturedLogs() as events:
            for path in (b"/livez", b"/readyz", b"/", b"/none"):
                protocol, transport = self.connect()
                protocol.dataReceived(b"HEAD " + path + b" HTTP/1.1\r\nHost: h\r\n\r\n")
                head, _, body = transport.value().partition(b"\r\n\r\n")
                self.assertEqual(b"", body)
                self.assertRegex(head, rb"(?i)\r\ncontent-length: [1-9]")
        self.assertEqual([], [formatEvent(event) for event in events])

    def test_not_ready(self) -> None:
        """A worker that takes no jobs says why, a line for each reason; it is alive meanwhile."""
        self.reasons = {"store": "the disk is full", "draining": "it is being drained"}
        expected = "store: the disk is full\ndraining: it is being drained\n"
        self.assertEqual((503, expected), self.ask(b"GET /readyz HTTP/1.1"))
        self.assertEqual((200, "ok\n"), self.ask(b"GET /livez HTTP/1.1"))

    def test_half_a_request(self) -> None:
        """A request that comes byte by byte is cut after REQUEST_SECONDS, whenever its last byte came."""
        protocol, transport = self.connect()
        for byte in b"GET /live":
            protocol.dataReceived(bytes([byte]))
            self.reactor.advance(REQUEST_SECONDS / 10)
        self.assertFalse(transport.aborted)
        self.reactor.advance(REQUEST_SECONDS / 10)
        self.assertTrue(transport.aborted)

    def test_idle(self) -> None:
        """
        A connection without a request is closed after IDLE_SECONDS, without a line of the log, also if its client reads
        nothing; one that asks again and again is kept.
        """
        protocol, transport = self.connect()
        for _ in range(3):
            self.reactor.advance(IDLE_SECONDS / 2)
            protocol.dataReceived(b"GET /livez HTTP/1.1\r\nHost: h\r\n\r\n")
        self.assertEqual(3, transport.value().count(b"ok\n"))
        self.assertFalse(transport.disconnecting)
        _, stalled = self.connect()
        stalled.stalled = True
        with capturedLogs() as events:
            self.reactor.advance(IDLE_SECONDS)
            self.assertTrue(transport.disconnecting)
            self.assertFalse(transport.aborted)
            self.reactor.advance(REQUEST_SECONDS)
        self.assertTrue(stalled.aborted)
        self.assertEqual([], [formatEvent(event) for event in events])
        self.assertEqual([], [call for call in self.reactor.getDelayedCalls() if "Date" not in str(call)])

    def test_silent_after_continue(self) -> None:
        """A client that is told to go on with its body, and does not, is closed like one that asks for nothing."""
        protocol, transport = self.connect()
        head = b"POST /livez HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
        protocol.dataReceived(head)
        self.assertIn(b"100 Continue", transport.value())
        self.reactor.advance(IDLE_SECONDS)
        self.assertTrue(transport.disconnecting)

    def test_too_many(self) -> None:
        """Connections beyond the limit are closed while requests are under way; when one ends, there is room again."""
        connections = [self.connect() for _ in range(MAX_CONNECTIONS)]
        for protocol, _ in connections:
            protocol.dataReceived(b"GET /")
        self.assertIsNone(self.connect()[0])
        connections[0][1].abortConnection()
        self.assertIsNotNone(self.connect()[0])

    def test_idle_make_room(self) -> None:
        """A further connection takes the place of the one that has been idle for longest, also if that asked before."""
        connections = [self.connect() for _ in range(MAX_CONNECTIONS)]
        connections[1][0].dataReceived(b"GET /")
        self.reactor.advance(1.0)
        connections[0][0].dataReceived(b"GET /livez HTTP/1.1\r\nHost: h\r\n\r\n")
        for expected in ([2], [2, 0]):
            self.reactor.advance(1.0)
            further, _ = self.connect()
            further.dataReceived(b"GET /")
            self.assertEqual(set(expected), {n for n, (_, transport) in enumerate(connections) if transport.aborted})
        self.assertIsNone(self.connect()[0])

    def test_answers_under_way(self) -> None:
        """A connection is not idle while its answer is not complete."""
        waiting: Any = Waiting()
        self.server = WebServer(self.reactor, "127.0.0.1", 30001, {"wait": waiting}, 1)
        self.server.startService()
        self.factory = self.reactor.tcpServers[1][1]
        protocol, transport = self.connect()
        protocol.dataReceived(b"GET /wait HTTP/1.1\r\nHost: h\r\n\r\n")
        self.assertIsNone(self.connect()[0])
        (request,) = waiting.requests
        request.write(b"a part")
        self.assertIsNone(self.connect()[0])
        request.finish()
        self.assertIsNotNone(self.connect()[0])
        self.assertTrue(transport.aborted)

    def test_large_body(self) -> None:
        """A request with a body that is large, or of unknown length, is refused before the body is read."""
        for header, status in ((f"Content-Length: {MAX_BODY_BYTES + 1}", 413), ("Transfer-Encoding: chunked", 411)):
            protocol, transport = self.connect()
            protocol.dataReceived(f"POST /livez HTTP/1.1\r\nHost: h\r\n{header}\r\n\r\n0\r\n\r\n".encode())
            self.assertEqual(status, int(transport.value().split()[1]))
            self.assertEqual(1, transport.value().count(b"HTTP/1.1"))
            self.assertTrue(transport.disconnecting)

    def test_stop(self) -> None:
        """When the server stops, its connections are closed; those whose client does not read are cut in a second."""
        _, idle = self.connect()
        _, stalled = self.connect()
        stalled.stalled = True
        stopped = self.server.stopService()
        self.assertTrue(idle.disconnecting)
        self.assertNoResult(stopped)
        self.reactor.advance(1.0)
        self.assertTrue(stalled.aborted)
        self.successResultOf(stopped)
        self.assertEqual([], [call for call in self.reactor.getDelayedCalls() if "Date" not in str(call)])

    def test_stop_without_connections(self) -> None:
        """It ends at once, and may never have been started."""
        self.successResultOf(self.server.stopService())
        self.successResultOf(WebServer(self.reactor, "127.0.0.1", 0, {}, 1).stopService())

    def test_address_in_use(self) -> None:
        """An address that cannot be bound is a sentence with the address."""
        why = CannotListenError("127.0.0.1", 30001, OSError(98, "Address already in use"))
        server = WebServer(mock.Mock(listenTCP=mock.Mock(side_effect=why)), "127.0.0.1", 30001, {}, 1)
        error = self.assertRaises(CannotServe, server.startService)
        self.assertEqual("127.0.0.1:30001: Address already in use", str(error))
