"""What is measured again and again, with a fake clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import mock

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from txworker.daemon.timers import LAG_SECONDS, LOOK_SECONDS, LagWatch, output_watch
from txworker.worker.readiness import OUTPUT, Readiness


class OneThread:
    """A reactor and its thread pool, which do all at once."""

    def getThreadPool(self) -> Any:
        return self

    def callFromThread(self, call: Callable[..., Any], *args: Any) -> None:
        call(*args)

    def callInThreadWithCallback(self, on_result: Callable[..., Any], call: Callable[..., Any], *args: Any) -> None:
        on_result(True, call(*args))


class OutputWatchTests(SynchronousTestCase):
    def test_no_output(self) -> None:
        """While no output file can be made the worker is not ready, as each look finds it."""
        outputs, readiness, clock = mock.Mock(problem=""), Readiness(lambda ready: None), Clock()
        watch = output_watch(outputs, OneThread(), readiness)
        watch.clock = clock
        watch.startService()
        found = [readiness.reasons]
        for problem in ("full", ""):
            outputs.problem = problem
            clock.advance(LOOK_SECONDS)
            found.append(readiness.reasons)
        watch.stopService()
        self.assertEqual([{}, {OUTPUT: "full"}, {}], found)
        self.assertEqual(3, outputs.check.call_count)


class LagWatchTests(SynchronousTestCase):
    def test_lag(self) -> None:
        """It tells how late each call came, and counts the next one from then on."""
        clock, late = Clock(), list[float]()
        watch = LagWatch(clock, late.append)
        watch.startService()
        clock.advance(LAG_SECONDS)
        clock.advance(LAG_SECONDS + 0.25)
        clock.advance(LAG_SECONDS)
        self.assertEqual([0.0, 0.25, 0.0], late)

    def test_stop(self) -> None:
        """It leaves no timer."""
        clock = Clock()
        watch = LagWatch(clock, lambda seconds: None)
        watch.startService()
        watch.stopService()
        watch.stopService()
        self.assertEqual([], clock.getDelayedCalls())
