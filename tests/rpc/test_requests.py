"""Any bytes for any kind of method, over a real grpcio server on port 0."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from grpc_health.v1 import health_pb2 as pb
from twisted.trial.unittest import SynchronousTestCase

from txworker.jobs.errors import CallerGone, InvalidRequest, TxWorkerError
from txworker.rpc.requests import add_service, never_raising

LIMIT = 10.0
GOOD = pb.HealthCheckRequest(service="a").SerializeToString()
BAD = b"\x0a\x01\xff"
SENTENCE = r"service: b'\xff' is not UTF-8"


class FakeServicer:
    """
    A method of each kind, which answers with the requested service. Records what the requests raise.

    again: set before the next request is awaited, which happens when go_on is set.
    ended: set when the requests are over. over: set when gRPC reports the end of the call.
    """

    def __init__(self) -> None:
        self.raised: list[type[Exception]] = []
        self.ended, self.again, self.over, self.go_on = (threading.Event() for _ in range(4))
        self.go_on.set()

    def one_one(self, request: Any, context: grpc.ServicerContext) -> Any:
        return pb.HealthCheckRequest(service=f"asked {request.service}")

    def one_many(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        yield self.one_one(request, context)

    def many_one(self, requests: Iterator[Any], context: grpc.ServicerContext) -> Any:
        return self.one_one(list(self._recorded(requests))[-1], context)

    def many_many(self, requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        context.add_callback(self.over.set)
        for request in self._recorded(requests):
            yield self.one_one(request, context)

    def _recorded(self, requests: Iterator[Any]) -> Iterator[Any]:
        try:
            for request in requests:
                yield request
                self.again.set()
                self.go_on.wait(LIMIT)
        except TxWorkerError as error:
            self.raised.append(type(error))
            raise
        finally:
            self.ended.set()


class RequestsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.servicer = FakeServicer()
        self.left = threading.Event()
        self.pool = ThreadPoolExecutor(4)
        self.server = grpc.server(self.pool)
        add_service(self.add, self.servicer, self.server)
        port = self.server.add_insecure_port("127.0.0.1:0")
        self.server.start()
        self.addCleanup(self.pool.shutdown)
        self.addCleanup(lambda: self.server.stop(None).wait())
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        self.addCleanup(self.channel.close)

    @staticmethod
    def add(servicer: FakeServicer, server: Any) -> None:
        """As generated code does; the names are those of methods that take a HealthCheckRequest."""
        how = (pb.HealthCheckRequest.FromString, pb.HealthCheckRequest.SerializeToString)
        handlers = {
            "Check": grpc.unary_unary_rpc_method_handler(servicer.one_one, *how),
            "Watch": grpc.unary_stream_rpc_method_handler(servicer.one_many, *how),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("grpc.health.v1.Health", handlers),))
        server.add_registered_method_handlers("grpc.health.v1.Health", handlers)
        message = pb.HealthCheckRequest.DESCRIPTOR
        streaming = {
            "ManyOne": never_raising(grpc.stream_unary_rpc_method_handler(servicer.many_one, *how), message),
            "ManyMany": never_raising(grpc.stream_stream_rpc_method_handler(servicer.many_many, *how), message),
        }
        server._server.add_registered_method_handlers("Streaming", streaming)

    def refused(self, call: Callable[[], Any]) -> None:
        with self.assertRaises(grpc.RpcError) as caught:
            call()
        error: Any = caught.exception
        self.assertEqual((grpc.StatusCode.INVALID_ARGUMENT, SENTENCE), (error.code(), error.details()))

    def test_one(self) -> None:
        """A good request is answered. A bad one is refused, and the method is not called."""
        check: Any = self.channel.unary_unary("/grpc.health.v1.Health/Check")
        watch: Any = self.channel.unary_stream("/grpc.health.v1.Health/Watch")
        self.assertEqual(b"\x0a\x07asked a", check(GOOD, timeout=LIMIT))
        self.assertEqual([b"\x0a\x07asked a"], list(watch(GOOD, timeout=LIMIT)))
        self.assertEqual(b"\x0a\x06asked ", check(b"", timeout=LIMIT))
        self.refused(lambda: check(BAD, timeout=LIMIT))
        self.refused(lambda: list(watch(BAD, timeout=LIMIT)))

    def test_many(self) -> None:
        """Good requests of a stream reach the method. The first bad one raises InvalidRequest in it."""
        one: Any = self.channel.stream_unary("/Streaming/ManyOne")
        many: Any = self.channel.stream_stream("/Streaming/ManyMany")
        self.assertEqual(b"\x0a\x07asked a", one(iter([GOOD, GOOD]), timeout=LIMIT))
        self.assertEqual([b"\x0a\x07asked a"] * 2, list(many(iter([GOOD, GOOD]), timeout=LIMIT)))
        self.refused(lambda: one(iter([GOOD, BAD]), timeout=LIMIT))
        answers = many(iter([GOOD, BAD, GOOD]), timeout=LIMIT)
        self.assertEqual(b"\x0a\x07asked a", next(answers))
        self.refused(lambda: next(answers))
        self.assertEqual([InvalidRequest] * 2, self.servicer.raised)

    def test_client_leaves(self) -> None:
        """When the client leaves between two requests, the method gets CallerGone, not an error of gRPC's."""
        self.servicer.go_on.clear()
        answers = self.called_once()
        answers.cancel()
        self.assertTrue(self.servicer.over.wait(LIMIT))
        self.servicer.go_on.set()
        self.assertTrue(self.servicer.ended.wait(LIMIT))
        self.assertEqual([CallerGone], self.servicer.raised)

    def test_client_leaves_while_awaited(self) -> None:
        """The same while the method waits for a request; gRPC may also end the requests."""
        answers = self.called_once()
        answers.cancel()
        self.assertTrue(self.servicer.ended.wait(LIMIT))
        self.assertIn(self.servicer.raised, ([CallerGone], []))

    def called_once(self) -> Any:
        """A call whose first request is answered, and whose client sends no second one."""
        self.addCleanup(self.left.set)
        called: Any = self.channel.stream_stream("/Streaming/ManyMany")
        answers = called(self.one_then_nothing(), timeout=LIMIT)
        next(answers)
        self.assertTrue(self.servicer.again.wait(LIMIT))
        return answers

    def one_then_nothing(self) -> Iterator[bytes]:
        yield GOOD
        self.left.wait(LIMIT)
