"""What an observer is told of calls, with handlers that are called without gRPC."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import grpc
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.support.observer import RecordingObserver
from txworker.rpc.measuring import Measuring


class FakeContext:
    """A call that the client may leave."""

    def __init__(self, remaining: float | None = None) -> None:
        self.end: Callable[[], None] = lambda: None
        self.active = True
        self._code: grpc.StatusCode | None = None
        self._remaining = remaining

    def code(self) -> grpc.StatusCode | None:
        return self._code

    def is_active(self) -> bool:
        return self.active

    def time_remaining(self) -> float | None:
        return self._remaining

    def add_callback(self, callback: Callable[[], None]) -> bool:
        self.end = callback
        return self.active

    def abort(self, code: grpc.StatusCode) -> None:
        self._code = code
        raise RuntimeError("aborted")


class MeasuringTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.observer = RecordingObserver()
        self.measuring = Measuring(self.observer, self.clock.seconds)

    def handler(self, handler: Any, method: str = "/a.Worker/Ask") -> Any:
        return self.measuring.intercept_service(lambda details: handler, SimpleNamespace(method=method))

    def unary(self, context: FakeContext, behaviour: Callable[[Any, Any], Any]) -> list[tuple[Any, ...]]:
        """What is told of a call that waits 2 s for its thread."""
        handler = self.handler(grpc.unary_unary_rpc_method_handler(behaviour))
        self.clock.advance(2)
        with contextlib.suppress(RuntimeError):
            handler.unary_unary("request", context)
        return self.observer.told

    def test_answered(self) -> None:
        """A call is told by its method, with the time that it waited for a thread, and its whole time."""

        def behaviour(request: str, context: Any) -> str:
            self.clock.advance(3)
            return request

        self.assertEqual([("call_answered", "Ask", "OK", 2.0, 5.0)], self.unary(FakeContext(), behaviour))

    def test_refused(self) -> None:
        """A call that is aborted is told with its code; one that fails by a mistake as UNKNOWN, as gRPC answers it."""
        aborted = self.unary(FakeContext(), lambda request, context: context.abort(grpc.StatusCode.NOT_FOUND))
        self.assertEqual("NOT_FOUND", aborted[0][2])

        def mistake(request: str, context: Any) -> None:
            raise RuntimeError

        self.assertEqual("UNKNOWN", self.unary(FakeContext(), mistake)[1][2])

    def test_left(self) -> None:
        """A call whose client has left meanwhile is CANCELLED, or DEADLINE_EXCEEDED if that is why."""
        for remaining, code in ((None, "CANCELLED"), (3.0, "CANCELLED"), (0.0, "DEADLINE_EXCEEDED")):
            context = FakeContext(remaining)
            context.active = False
            self.assertEqual(code, self.unary(context, lambda request, context: request)[-1][2])

    def stream(self, context: FakeContext, behaviour: Callable[[Any, Any], Iterator[Any]]) -> Iterator[Any]:
        answers: Iterator[Any] = self.handler(grpc.unary_stream_rpc_method_handler(behaviour)).unary_stream("", context)
        return answers

    def test_stream(self) -> None:
        """A stream is open from its first message on until the call has ended, and has the code that it ended with."""
        context = FakeContext()
        answers = self.stream(context, lambda request, context: iter("ab"))
        self.assertEqual([], self.observer.told)
        self.assertEqual("a", next(answers))
        self.assertEqual([("stream_opened", "Ask")], self.observer.told)
        self.assertEqual(["b"], list(answers))
        context.end()
        self.assertEqual([("stream_closed", "Ask"), ("call_answered", "Ask", "OK", 0.0, 0.0)], self.observer.told[1:])

    def test_stream_left(self) -> None:
        """A stream whose client leaves is closed, and CANCELLED, although it is never read to its end."""
        context = FakeContext()
        answers = self.stream(context, lambda request, context: iter("ab"))
        next(answers)
        context.end()
        self.assertEqual(("call_answered", "Ask", "CANCELLED", 0.0, 0.0), self.observer.told[-1])

    def test_stream_refused(self) -> None:
        """A stream that is aborted has the code; a client that left before counts as well."""
        context = FakeContext()

        def refused(request: str, context: Any) -> Iterator[str]:
            context.abort(grpc.StatusCode.DATA_LOSS)
            yield ""

        self.assertRaises(RuntimeError, list, self.stream(context, refused))
        context.end()
        self.assertEqual("DATA_LOSS", self.observer.told[-1][2])
        left = FakeContext()
        left.active = False
        self.assertEqual([], list(self.stream(left, lambda request, context: iter("ab"))))
        self.assertEqual(["stream_closed", "call_answered"], [fact[0] for fact in self.observer.told[-2:]])

    def test_unknown_method(self) -> None:
        """A method that is not served is not told: its name is the client's text."""
        self.assertIsNone(self.handler(None, "/what/ever"))
        self.assertEqual([], self.observer.told)
