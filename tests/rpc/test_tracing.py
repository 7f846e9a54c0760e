"""What a tracer is told of calls, over real gRPC."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

import grpc
from twisted.trial.unittest import SynchronousTestCase

from txworker.jobs import JobSpec
from txworker.jobs.errors import NoSuchJob
from txworker.rpc.tracing import Tracing
from txworker.rpc.wire.status import status_of

LIMIT = 10


class FakeTracer:
    """Remembers calls; `current` is the span of the block in this moment."""

    def __init__(self) -> None:
        self.ended: SimpleQueue[tuple[str, str, str, str]] = SimpleQueue()
        self.metadata: dict[str, Any] = {}
        self.current = ""

    def call(self, method: str, metadata: Any, peer: str, came_ns: int) -> FakeSpan:
        self.metadata = dict(metadata)
        return FakeSpan(self, method)

    def job(self, spec: JobSpec) -> JobSpec:
        return spec

    def not_submitted(self, spec: JobSpec) -> None:
        raise NotImplementedError


class FakeSpan:
    def __init__(self, tracer: FakeTracer, method: str) -> None:
        self._tracer = tracer
        self._method = method

    @contextmanager
    def current(self) -> Iterator[None]:
        self._tracer.current = self._method
        yield
        self._tracer.current = ""

    def ended(self, code: str, details: str, reason: str) -> None:
        self._tracer.ended.put((self._method, code, details, reason))


class TracingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.tracer = FakeTracer()
        self.server = grpc.server(ThreadPoolExecutor(2), interceptors=[Tracing(self.tracer)])
        handlers: dict[str, Any] = {
            "One": grpc.unary_unary_rpc_method_handler(self.one),
            "Many": grpc.unary_stream_rpc_method_handler(self.many),
        }
        for service in ("a.Worker", "grpc.health.v1.Health"):
            self.server.add_registered_method_handlers(service, handlers)
        port = self.server.add_insecure_port("127.0.0.1:0")
        self.server.start()
        self.addCleanup(lambda: self.server.stop(None).wait(LIMIT))
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        self.addCleanup(self.channel.close)

    def one(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        if request == b"refuse":
            context.abort_with_status(status_of(NoSuchJob("x")))
        if request == b"mistake":
            raise ZeroDivisionError
        return self.tracer.current.encode()

    def many(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        yield b"1"
        if request == b"refuse":
            context.abort_with_status(status_of(NoSuchJob("x")))
        while request == b"endless":
            yield b"2"

    def ask(self, request: bytes, method: str = "/a.Worker/One") -> bytes:
        call: Any = self.channel.unary_unary(method)
        answer: bytes = call(request, timeout=LIMIT, metadata=(("traceparent", "t"),))
        return answer

    def ask_many(self, request: bytes, timeout: float) -> Any:
        call: Any = self.channel.unary_stream("/a.Worker/Many")
        return call(request, timeout=timeout)

    def test_answered(self) -> None:
        """The method runs within the span, which ends with OK; the tracer has seen the client's metadata."""
        self.assertEqual(b"/a.Worker/One", self.ask(b""))
        self.assertEqual(("/a.Worker/One", "OK", "", ""), self.tracer.ended.get(timeout=LIMIT))
        self.assertEqual("t", self.tracer.metadata["traceparent"])

    def test_refused(self) -> None:
        """A refusal has its code, its sentence and its reason, of one answer as of many."""
        sentence = str(NoSuchJob("x"))
        with self.assertRaises(grpc.RpcError):
            self.ask(b"refuse")
        self.assertEqual(
            ("/a.Worker/One", "NOT_FOUND", sentence, NoSuchJob("x").reason), self.tracer.ended.get(timeout=LIMIT)
        )
        with self.assertRaises(grpc.RpcError):
            list(self.ask_many(b"refuse", timeout=LIMIT))
        self.assertEqual(
            ("/a.Worker/Many", "NOT_FOUND", sentence, NoSuchJob("x").reason), self.tracer.ended.get(timeout=LIMIT)
        )

    def test_mistake(self) -> None:
        """An exception is an error of no known code."""
        with self.assertRaises(grpc.RpcError):
            self.ask(b"mistake")
        self.assertEqual("UNKNOWN", self.tracer.ended.get(timeout=LIMIT)[1])

    def test_streams(self) -> None:
        """A stream's span ends with its last answer, or when the client leaves."""
        self.assertEqual([b"1"], list(self.ask_many(b"", timeout=LIMIT)))
        self.assertEqual("OK", self.tracer.ended.get(timeout=LIMIT)[1])
        answers = self.ask_many(b"endless", timeout=LIMIT)
        next(answers)
        answers.cancel()
        self.assertEqual("CANCELLED", self.tracer.ended.get(timeout=LIMIT)[1])

    def test_probes(self) -> None:
        """Health checks are not traced."""
        self.ask(b"", "/grpc.health.v1.Health/One")
        self.ask(b"")
        self.assertEqual("/a.Worker/One", self.tracer.ended.get(timeout=LIMIT)[0])
