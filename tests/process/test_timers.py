"""Timers by name. On a Clock."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from txworker.process.timers import Timers


class TimersTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.timers = Timers(self.clock)
        self.due: list[str] = []

    def start(self, name: str, seconds: float) -> None:
        self.timers.start(name, seconds, lambda: self.due.append(name))

    def test_replaced(self) -> None:
        """A timer replaces the one of the same name, and is due once."""
        self.start("a", 1)
        self.start("a", 3)
        self.start("b", 2)
        self.clock.advance(2)
        self.assertEqual((["b"], 1), (self.due, self.timers.left("a")))
        self.clock.pump([1, 10])
        self.assertEqual(["b", "a"], self.due)
        self.assertRaises(KeyError, self.timers.left, "a")

    def test_shorten(self) -> None:
        """A timer can be shortened, and not lengthened."""
        shorten = self.timers.shorten
        self.assertTrue(shorten("a", 5, lambda: self.due.append("first")))
        self.assertFalse(shorten("a", 6, lambda: self.due.append("later")))
        self.assertTrue(shorten("a", 2, lambda: self.due.append("earlier")))
        self.clock.advance(10)
        self.assertEqual(["earlier"], self.due)

    def test_cancel(self) -> None:
        """Timers are cancelled by name, or all; one that does not run is ignored."""
        for name in "abc":
            self.start(name, 1)
        self.timers.cancel("a", "unknown")
        self.assertEqual(2, len(self.clock.getDelayedCalls()))
        self.timers.cancel()
        self.assertEqual([], self.clock.getDelayedCalls())
