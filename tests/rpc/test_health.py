"""The health service without threads: what would have to wait makes something happen first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

import grpc
from grpc_health.v1 import health_pb2 as pb
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from txworker.jobs.errors import CallerGone
from txworker.rpc.bridge import Bridge
from txworker.rpc.health import Health

SERVING, NOT_SERVING = pb.HealthCheckResponse.SERVING, pb.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = pb.HealthCheckResponse.SERVICE_UNKNOWN


class Aborted(Exception):
    """What abort() raises."""


class FakeContext:
    """Remembers how it was ended."""

    def abort(self, code: grpc.StatusCode, details: str) -> None:
        raise Aborted(code, details)

    def abort_with_status(self, status: grpc.Status) -> None:
        raise Aborted(status.code, status.details)


class FakeBridge:
    """Instead of waiting, its caller has the next thing happen; when nothing is left the client leaves."""

    def __init__(self) -> None:
        self.happens: list[Callable[[], Any]] = []
        self.asked: list[Deferred[Any]] = []

    def caller(self, context: object) -> FakeBridge:
        return self

    def call(self, ask: Callable[[], Deferred[Any]]) -> None:
        answer = ask()
        while not answer.called:
            if not self.happens:
                answer.addErrback(lambda failure: None)
                answer.cancel()
                raise CallerGone
            self.happens.pop(0)()


class HealthTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.bridge = FakeBridge()
        self.health = Health(cast(Bridge, self.bridge), ["a.Worker"])

    def watch(self, service: str = "") -> Iterator[pb.HealthCheckResponse]:
        return self.health.Watch(pb.HealthCheckRequest(service=service), cast(grpc.ServicerContext, FakeContext()))

    def told(self, service: str = "") -> tuple[list[int], grpc.StatusCode]:
        """What one watcher is told, and how it ends."""
        found: list[int] = []
        with self.assertRaises(Aborted) as ended:
            found.extend(message.status for message in self.watch(service))
        return found, ended.exception.args[0]

    def check(self, service: str) -> Any:
        context = cast(grpc.ServicerContext, FakeContext())
        return self.health.Check(pb.HealthCheckRequest(service=service), context).status

    def test_each_change(self) -> None:
        """First what is so, then what changes; what is announced again is not told again."""
        announce = self.health.announce
        self.bridge.happens = [lambda: announce(True), lambda: announce(False), lambda: announce(False)]
        self.bridge.happens.append(lambda: announce(True))
        self.assertEqual(([SERVING, NOT_SERVING, SERVING], grpc.StatusCode.CANCELLED), self.told("a.Worker"))

    def test_slow(self) -> None:
        """Who reads late is told the newest, and nothing that has not changed since."""
        watching = self.watch()
        next(watching)
        self.health.announce(False)
        self.health.announce(True)
        self.bridge.happens = [lambda: self.health.announce(False)]
        self.assertEqual(NOT_SERVING, next(watching).status)

    def test_unknown(self) -> None:
        """A name that is not served can be watched, and nothing comes of it; asked for it is NOT_FOUND."""
        self.bridge.happens = [lambda: self.health.announce(False)]
        self.assertEqual(([SERVICE_UNKNOWN], grpc.StatusCode.CANCELLED), self.told("b.Worker"))
        with self.assertRaises(Aborted) as refused:
            self.check("b.Worker")
        self.assertEqual(
            (grpc.StatusCode.NOT_FOUND, "service: 'b.Worker' is not served by this worker"), refused.exception.args
        )

    def test_stopping(self) -> None:
        """Then it is NOT_SERVING for good, by every name."""
        self.health.announce_stopping()
        self.health.announce(True)
        self.assertEqual([NOT_SERVING] * 2, [self.check(""), self.check("a.Worker")])
        listed = self.health.List(pb.HealthListRequest(), cast(grpc.ServicerContext, FakeContext())).statuses
        self.assertEqual({"": NOT_SERVING, "a.Worker": NOT_SERVING}, {name: listed[name].status for name in listed})

    def test_end(self) -> None:
        """Who watches is told what is still untold, then that the worker stops; who comes later, too."""
        self.bridge.happens = [self.health.announce_stopping, self.health.end]
        self.assertEqual(([SERVING, NOT_SERVING], grpc.StatusCode.UNAVAILABLE), self.told())
        self.assertEqual(([NOT_SERVING], grpc.StatusCode.UNAVAILABLE), self.told())

    def test_nobody_is_kept(self) -> None:
        """A watcher that has left is not remembered."""
        for _ in range(3):
            self.told("a.Worker")
            self.told("whatever")
        self.assertEqual(0, len(self.health._changed))
