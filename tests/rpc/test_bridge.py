"""Calls from gRPC threads into the reactor. Real threads for callers, a Clock for the reactor."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, cast
from unittest import mock

from twisted.internet.defer import Deferred, succeed
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from txworker.jobs.errors import CallerGone, CallerLeft, DeadlineExceeded, WorkerStopping
from txworker.rpc.bridge import CHECK_SECONDS, Bridge
from txworker.rpc.call_queue import CallQueue

LIMIT = 10.0


class FakeReactor(Clock):
    """The test runs the calls from threads; counts the wake-ups."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []
        self.woken = threading.Semaphore(0)

    def callFromThread(self, callable: Callable[..., Any], *args: Any) -> None:
        self.asked.append((callable, args))
        self.woken.release()

    def turn(self) -> None:
        calls, self.asked = self.asked, []
        for call, args in calls:
            call(*args)


class FakeContext:
    """An RPC whose client leaves when the test calls leave()."""

    def __init__(self) -> None:
        self.leave: Callable[[], None] = lambda: None
        self.remaining: float | None = None

    def add_callback(self, callback: Callable[[], None]) -> bool:
        self.leave = callback
        return True

    def time_remaining(self) -> float | None:
        return self.remaining


class CallQueueTests(SynchronousTestCase):
    def test_woken_once(self) -> None:
        """Calls that come before the reactor runs them wake it once and keep their order."""
        reactor = FakeReactor()
        queue = CallQueue(reactor)
        made: list[int] = []
        for number in range(3):
            queue.callFromThread(made.append, number)
        self.assertEqual(1, len(reactor.asked))
        reactor.turn()
        queue.callFromThread(made.append, 3)
        reactor.turn()
        self.assertEqual([0, 1, 2, 3], made)

    def test_told_how_long(self) -> None:
        """Once for each wake-up it tells how long the first of the calls has waited."""
        reactor, waited = FakeReactor(), list[float]()
        queue = CallQueue(reactor, waited.append)
        with mock.patch("time.perf_counter", side_effect=[10.0, 10.5, 20.0, 20.25]):
            for _ in range(2):
                queue.callFromThread(lambda: None)
                queue.callFromThread(lambda: None)
                reactor.turn()
        self.assertEqual([0.5, 0.25], waited)

    def test_mistake_stays_alone(self) -> None:
        """A failing call is logged, and the calls after it are made."""
        reactor = FakeReactor()
        queue = CallQueue(reactor)
        made: list[int] = []
        queue.callFromThread(lambda: 1 / 0)
        queue.callFromThread(made.append, 1)
        reactor.turn()
        self.assertEqual([1], made)
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))


class CallTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = FakeReactor()
        self.bridge = Bridge(self.reactor)
        self.context = FakeContext()
        self.results: list[Any] = []

    def call(self, ask: Callable[[], Deferred[Any]], within_seconds: float | None = None) -> threading.Thread:
        """A thread that calls; returns once the call is in the reactor."""
        caller = self.bridge.caller(cast(Any, self.context))

        def work() -> None:
            try:
                self.results.append(caller.call(ask, within_seconds))
            except Exception as error:
                self.results.append(type(error))

        thread = threading.Thread(target=work)
        thread.start()
        self.assertTrue(self.reactor.woken.acquire(timeout=LIMIT))
        self.reactor.turn()
        return thread

    def assertResult(self, thread: threading.Thread, expected: object) -> None:
        thread.join(LIMIT)
        self.assertEqual([expected], self.results)

    def test_answers(self) -> None:
        """Immediate and later results reach the caller, and no timer is left."""
        self.assertResult(self.call(lambda: succeed(1), 60), 1)
        self.assertEqual([], self.reactor.getDelayedCalls())
        later: Deferred[int] = Deferred()
        thread = self.call(lambda: later, 60)
        later.callback(2)
        thread.join(LIMIT)
        self.assertEqual([1, 2], self.results)
        self.reactor.advance(CHECK_SECONDS)
        self.assertEqual([], self.reactor.getDelayedCalls())

    def test_limit(self) -> None:
        """A caller times out after its limit, not before."""
        thread = self.call(Deferred, 5)
        self.reactor.pump([CHECK_SECONDS] * 4)
        self.assertEqual([], self.results)
        self.reactor.pump([CHECK_SECONDS] * 2)
        self.assertResult(thread, DeferredTimeout)

    def test_client_leaves(self) -> None:
        """A client that leaves frees its thread; what it asked for had begun."""
        thread = self.call(Deferred)
        self.context.leave()
        self.reactor.turn()
        self.assertResult(thread, CallerLeft)

    def test_client_leaves_while_asked(self) -> None:
        """A client that leaves while ask() runs frees its thread, too."""

        def ask() -> Deferred[int]:
            self.context.leave()
            return Deferred()

        self.assertResult(self.call(ask), CallerLeft)

    def test_check(self) -> None:
        """check() raises the reason: the client left, its deadline passed, or the worker stops."""
        caller = self.bridge.caller(cast(Any, self.context))
        caller.check()
        self.context.remaining = 0.5
        caller.check()
        self.context.remaining = 0.0
        self.assertRaises(DeadlineExceeded, caller.check)
        self.context.leave()
        self.assertRaises(CallerGone, caller.check)
        self.bridge.close()
        self.assertRaises(WorkerStopping, caller.check)

    def test_closed(self) -> None:
        """close() cancels waiting calls, and later calls are refused."""
        thread = self.call(Deferred)
        self.bridge.close()
        self.assertResult(thread, WorkerStopping)
        self.call(lambda: succeed(1)).join(LIMIT)
        self.assertEqual([WorkerStopping] * 2, self.results)
