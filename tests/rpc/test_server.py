"""The end of the server, with a fake gRPC server."""

from __future__ import annotations

import threading
from typing import Any, cast

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from txworker.rpc.bridge import Bridge
from txworker.rpc.health import Health
from txworker.rpc.server import CLOSING_SECONDS, Connections, GrpcServer

LIMIT = 10.0


class FakeReactor(Clock):
    """The test runs the calls from threads."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = threading.Semaphore(0)
        self.crossing: list[tuple[Any, tuple[Any, ...]]] = []

    def callFromThread(self, callable: Any, *args: Any) -> None:
        self.crossing.append((callable, args))
        self.asked.release()


class FakeGrpc:
    """A server whose stop() blocks until the test releases it, as grpcio's does for its lock."""

    def __init__(self) -> None:
        self.may_stop = threading.Event()

    def stop(self, grace: float) -> threading.Event:
        self.may_stop.wait(LIMIT)
        return self.may_stop


class StopTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = FakeReactor()
        servicer = cast(Any, None)
        connections = Connections(100, 0, lambda: False)
        bridge = Bridge(self.reactor)
        self.service = GrpcServer("127.0.0.1", 0, servicer, bridge, Health(bridge, ()), 1, None, connections)
        self.grpc = FakeGrpc()
        self.addCleanup(self.grpc.may_stop.set)
        self.service._server = cast(Any, self.grpc)

    def test_ends(self) -> None:
        """It fires when gRPC has stopped, which a thread waits for. Only the bridge's timer is left."""
        closed = self.service.stopService()
        self.assertNoResult(closed)
        self.grpc.may_stop.set()
        self.assertTrue(self.reactor.asked.acquire(timeout=LIMIT))
        for call, args in self.reactor.crossing:
            call(*args)
        self.successResultOf(closed)
        self.reactor.advance(CLOSING_SECONDS)
        self.assertEqual([], self.reactor.getDelayedCalls())

    def test_does_not_end(self) -> None:
        """A gRPC that never stops delays the end of the worker for a bounded time."""
        closed = self.service.stopService()
        self.reactor.advance(CLOSING_SECONDS + 1.0)
        self.assertNoResult(closed)
        self.reactor.advance(1.0)
        self.successResultOf(closed)

    def test_not_started(self) -> None:
        """Without a start, stopping fires at once."""
        self.service._server = None
        self.successResultOf(self.service.stopService())
