"""Which client may call which method."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import grpc
from twisted.trial.unittest import SynchronousTestCase

from txworker.rpc.access import Access

TCP, UNIX = "ipv4:127.0.0.1:40000", "unix:/state/control.sock"


class Aborted(Exception):
    """What abort() raises."""


class FakeContext:
    """An RPC of that peer."""

    def __init__(self, peer: str) -> None:
        self._peer = peer

    def peer(self) -> str:
        return self._peer

    def abort(self, code: grpc.StatusCode, details: str) -> None:
        raise Aborted(code, details)


class AccessTests(SynchronousTestCase):
    def called(self, access: Access, method: str, peer: str) -> Any:
        """The method's answer to that peer."""
        handler: Any = grpc.unary_unary_rpc_method_handler(lambda request, context: request)
        found = access.intercept_service(lambda details: handler, SimpleNamespace(method=method))
        return found.unary_unary("answer", FakeContext(peer))

    def test_operator(self) -> None:
        """The operator's methods are answered on a Unix socket only."""
        for name in ("Drain", "Handover", "Reload"):
            method = f"/txworker.Control/{name}"
            self.assertEqual("answer", self.called(Access(), method, UNIX))
            with self.assertRaises(Aborted) as refused:
                self.called(Access(), method, TCP)
            code, details = refused.exception.args
            self.assertEqual(grpc.StatusCode.PERMISSION_DENIED, code)
            self.assertTrue(details.startswith(f"{name} is served on the socket control.sock"), details)

    def test_no_rule(self) -> None:
        """A method without a rule is answered to every peer; an unknown method stays unknown."""
        for peer in (TCP, UNIX):
            self.assertEqual("answer", self.called(Access(), "/jobscheduler.Worker/StartJob", peer))
        self.assertIsNone(Access().intercept_service(lambda details: None, SimpleNamespace(method="/no/such")))

    def test_every_kind_of_method(self) -> None:
        """A rule holds for streams in either direction, too."""
        access = Access([("/any/", lambda context, name: f"{name}: no")])
        handlers: list[Any] = [
            grpc.unary_stream_rpc_method_handler(lambda request, context: iter(())),
            grpc.stream_unary_rpc_method_handler(lambda requests, context: None),
            grpc.stream_stream_rpc_method_handler(lambda requests, context: iter(())),
        ]
        for handler in handlers:
            details = SimpleNamespace(method="/any/X")
            found = access.intercept_service(lambda _, handler=handler: handler, details)  # type: ignore[misc]
            behaviour = found.unary_stream or found.stream_unary or found.stream_stream
            with self.assertRaises(Aborted) as refused:
                behaviour(None, FakeContext(TCP))
            self.assertEqual("X: no", refused.exception.args[1])
