"""The health service without threads: where a call would wait, the test makes the next thing happen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast
from unittest import mock

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
    """Raises what the call is ended with."""

    def abort(self, code: grpc.StatusCode, details: str) -> None:
        raise Aborted(code, details)

    def abort_with_status(self, status: grpc.Status) -> None:
        raise Aborted(status.code, status.details)


class FakeBridge:
    """A caller that does the next thing instead of waiting; when nothing is left, its client leaves."""

    def __init__(self) -> None:
        self.happens: list[Callable[[], Any]] = []
        self.asked: list[Deferred[Any]] = []

    def caller(self, context: object) -> FakeBridge:
        return self

    def call(self, ask: Callable[[], Deferred[Any]], within_seconds: float | None = None) -> None:
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
        """The statuses that one watcher gets, and how its call ends."""
        found: list[int] = []
        with self.assertRaises(Aborted) as ended:
            found.extend(message.status for message in self.watch(service))
        return found, ended.exception.args[0]

    def check(self, service: str) -> Any:
        context = cast(grpc.ServicerContext, FakeContext())
        return self.health.Check(pb.HealthCheckRequest(service=service), context).status

    def test_each_change(self) -> None:
        """The present status comes first, then each change. An announcement that changes nothing is not sent."""
        announce = self.health.announce
        self.bridge.happens = [lambda: announce(True), lambda: announce(False), lambda: announce(False)]
        self.bridge.happens.append(lambda: announce(True))
        self.assertEqual(([SERVING, NOT_SERVING, SERVING], grpc.StatusCode.CANCELLED), self.told("a.Worker"))

    def test_slow(self) -> None:
        """A slow reader gets the newest status, and only if it differs from the last one that it got."""
        watching = self.watch()
        next(watching)
        self.health.announce(False)
        self.health.announce(True)
        self.bridge.happens = [lambda: self.health.announce(False)]
        self.assertEqual(NOT_SERVING, next(watching).status)

    def test_unknown(self) -> None:
        """An unknown name can be watched and stays SERVICE_UNKNOWN; Check answers NOT_FOUND."""
        self.bridge.happens = [lambda: self.health.announce(False)]
        self.assertEqual(([SERVICE_UNKNOWN], grpc.StatusCode.CANCELLED), self.told("b.Worker"))
        with self.assertRaises(Aborted) as refused:
            self.check("b.Worker")
        self.assertEqual(
            (grpc.StatusCode.NOT_FOUND, "service: 'b.Worker' is not served by this worker"), refused.exception.args
        )

    def test_live(self) -> None:
        """A worker that takes no jobs is NOT_SERVING by every name but "live"."""
        self.health.announce(False)
        self.assertEqual([NOT_SERVING] * 2, [self.check(""), self.check("a.Worker")])
        self.assertEqual(SERVING, self.check("live"))
        listed = self.health.List(pb.HealthListRequest(), cast(grpc.ServicerContext, FakeContext())).statuses
        statuses = {"": NOT_SERVING, "a.Worker": NOT_SERVING, "live": SERVING}
        self.assertEqual(statuses, {name: listed[name].status for name in listed})

    def test_live_needs_the_reactor(self) -> None:
        """A Check of "live" is answered only if the reactor turns; the others are read without it."""
        with mock.patch.object(self.bridge, "call", side_effect=CallerGone):
            self.assertEqual(SERVING, self.check(""))
            with self.assertRaises(Aborted) as ended:
                self.check("live")
        self.assertEqual(grpc.StatusCode.CANCELLED, ended.exception.args[0])

    def test_end(self) -> None:
        """Watchers get the last status, then UNAVAILABLE; so do later watchers."""
        self.bridge.happens = [lambda: self.health.announce(False), self.health.end]
        self.assertEqual(([SERVING, NOT_SERVING], grpc.StatusCode.UNAVAILABLE), self.told())
        self.assertEqual(([NOT_SERVING], grpc.StatusCode.UNAVAILABLE), self.told())

    def test_left_watchers_are_forgotten(self) -> None:
        """A watcher that has left leaves nothing behind."""
        for _ in range(3):
            self.told("a.Worker")
            self.told("whatever")
        self.assertEqual(0, len(self.health._changed))
