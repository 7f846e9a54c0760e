"""The line that says what is waited for."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any
from unittest import mock

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from txworker.cli.status_line import AFTER_SECONDS, StatusLine


class Terminal(io.StringIO):
    tty = True

    def isatty(self) -> bool:
        return self.tty


class FakeTimer:
    """A threading.Timer by a Clock."""

    def __init__(self, clock: Clock, seconds: float, call: Callable[[], None]) -> None:
        self.start = lambda: setattr(self, "delayed", clock.callLater(seconds, call))
        self.daemon = False
        self.delayed: Any = None

    def cancel(self) -> None:
        if self.delayed.active():
            self.delayed.cancel()


class StatusLineTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.terminal = Terminal()
        self.status: Any = StatusLine(lambda: self.terminal, lambda *how: FakeTimer(self.clock, *how))  # type: ignore[arg-type]  # a fake
        self.enterContext(mock.patch.dict("os.environ", {"TERM": "xterm"}))

    def enterContext(self, context: Any) -> Any:  # unittest has it from Python 3.11 on
        self.addCleanup(context.__exit__, None, None, None)
        return context.__enter__()

    def test_long(self) -> None:
        """It is shown when the wait lasts, and erased at its end; nothing else is left."""
        with self.status.waiting("waiting for a"):
            self.clock.advance(AFTER_SECONDS / 2)
            self.assertEqual("", self.terminal.getvalue())
            self.clock.advance(AFTER_SECONDS)
            self.assertEqual("txworker: waiting for a …", self.terminal.getvalue())
        self.assertEqual("txworker: waiting for a …\r\x1b[K", self.terminal.getvalue())
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_short(self) -> None:
        """A short wait is not told, also when it fails."""
        with self.assertRaises(ValueError), self.status.waiting("waiting for a"):
            raise ValueError
        self.clock.advance(9)
        self.assertEqual("", self.terminal.getvalue())

    def test_paused(self) -> None:
        """What is printed meanwhile has a line of its own, and the status is shown again below it."""
        with self.status.waiting("waiting"):
            with self.status.paused():
                self.terminal.write("one\n")
            self.clock.advance(AFTER_SECONDS)
            with self.status.paused():
                self.terminal.write("two\n")
        shown = "txworker: waiting …"
        self.assertEqual(f"one\n{shown}\r\x1b[Ktwo\n{shown}\r\x1b[K", self.terminal.getvalue())

    def test_within(self) -> None:
        """While one wait is inside another, the inner one's sentence is shown."""
        with self.status.waiting("outer"), self.status.waiting("inner"):
            self.clock.advance(AFTER_SECONDS)
            self.assertEqual("txworker: inner …", self.terminal.getvalue())
        self.assertTrue(self.terminal.getvalue().endswith("\r\x1b[K"))

    def test_threads(self) -> None:
        """Two waits, neither inside the other, end independently."""
        one, two = self.status.waiting("one"), self.status.waiting("two")
        one.__enter__()
        two.__enter__()
        self.clock.advance(AFTER_SECONDS)
        one.__exit__(None, None, None)
        self.assertTrue(self.terminal.getvalue().endswith("\r\x1b[Ktxworker: two …"), self.terminal.getvalue())
        two.__exit__(None, None, None)
        self.assertTrue(self.terminal.getvalue().endswith("txworker: two …\r\x1b[K"))
        with self.status.paused():
            pass
        self.assertTrue(self.terminal.getvalue().endswith("txworker: two …\r\x1b[K"))

    def test_no_terminal(self) -> None:
        """A file, a dumb terminal and a closed stderr get nothing."""
        for change in ({"TERM": "dumb"}, None):
            self.terminal.tty = change is not None
            with mock.patch.dict("os.environ", change or {}), self.status.waiting("waiting"):
                self.clock.advance(9)
        self.assertEqual("", self.terminal.getvalue())
        with StatusLine(lambda: None).waiting("waiting"):
            pass

    def test_wide(self) -> None:
        """It never wraps, and is printable."""
        with self.status.waiting("\x1b[2J" + "x" * 500):
            self.clock.advance(AFTER_SECONDS)
            shown = self.terminal.getvalue()
        self.assertEqual((79, "…", True), (len(shown), shown[-1], shown.isprintable()))
