"""The ladder TERM, patience, KILL; the time limits; the bounded wait for the last output. All on a Clock."""

from __future__ import annotations

from signal import SIGKILL, SIGTERM

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.support.fakes import FakeChild
from txworker.jobs import EndReason
from txworker.process.run import RunParts, begin, new_run


class RunTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.child = FakeChild()
        self.overdue: list[EndReason] = []

    def a_run(self, timeout: float | None = None, quiet: float | None = None) -> None:
        self.parts = RunParts(self.clock, self.overdue.append, 10, 2, timeout, quiet)
        self.run_ = new_run(self.parts)
        begin(self.run_, self.parts, self.child)

    def assertOver(self) -> None:
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_term_patience_kill(self) -> None:
        """A child that ignores TERM is killed when the grace period is over, and no timer is left behind."""
        self.a_run()
        self.run_.stop(5)
        self.clock.advance(4.9)
        self.assertEqual([SIGTERM], self.child.signals)
        self.clock.advance(0.1)
        self.assertEqual([SIGTERM, SIGKILL], self.child.signals)
        self.run_.ended()
        self.assertOver()

    def test_no_grace(self) -> None:
        """No grace period at all means KILL and nothing before it."""
        self.a_run()
        self.run_.stop(0)
        self.clock.advance(0)
        self.assertEqual([SIGKILL], self.child.signals)

    def test_earlier_end_counts(self) -> None:
        """Asked again, a shorter grace period shortens the first, a longer one does not lengthen it."""
        self.a_run()
        self.run_.stop(10)
        self.run_.stop(100)
        self.clock.advance(1)
        self.run_.stop(2)
        self.clock.advance(2)
        self.assertEqual([SIGTERM, SIGKILL], self.child.signals)

    def test_timeout(self) -> None:
        """A job that runs too long is ended like a stopped one, and the reason is told first."""
        self.a_run(timeout=30)
        self.clock.advance(30)
        self.assertEqual(([EndReason.TIMEOUT], [SIGTERM]), (self.overdue, self.child.signals))
        self.clock.advance(10)
        self.assertEqual([SIGTERM, SIGKILL], self.child.signals)

    def test_quiet_timeout(self) -> None:
        """Only so long without output ends a job; every output begins the time anew."""
        self.a_run(quiet=5)
        self.clock.advance(4)
        self.parts.last_output = self.clock.seconds()
        self.clock.advance(4.5)
        self.assertEqual([], self.overdue)
        self.clock.advance(0.5)
        self.assertEqual([EndReason.QUIET], self.overdue)

    def test_stopped_is_not_overdue(self) -> None:
        """Once a stop was asked for, a time limit says nothing more."""
        self.a_run(timeout=5, quiet=5)
        self.run_.stop(20)
        self.clock.advance(6)
        self.assertEqual([], self.overdue)

    def test_output_held_open(self) -> None:
        """When something left behind holds the output, it is asked to go, then killed and the pipe closed."""
        self.a_run()
        self.run_.exited()
        self.assertEqual([SIGTERM], self.child.signals)
        self.clock.advance(1.9)
        self.assertFalse(self.child.closed)
        self.clock.advance(0.1)
        self.assertEqual(([SIGTERM, SIGKILL], True), (self.child.signals, self.child.closed))
        self.run_.ended()
        self.assertOver()

    def test_rest_of_the_grace_period(self) -> None:
        """What a stopped job leaves behind has as long as the job itself would have had."""
        self.a_run()
        self.run_.stop(8)
        self.clock.advance(1)
        self.run_.exited()
        self.clock.advance(6.9)
        self.assertFalse(self.child.closed)
        self.clock.advance(0.1)
        self.assertTrue(self.child.closed)

    def test_every_input_in_every_state(self) -> None:
        """No order of events is an error: the world does not ask whether it is convenient."""
        self.a_run(timeout=1)
        inputs = [
            lambda: self.run_.exited(),
            lambda: self.run_.stop(1),
            lambda: self.run_.exited(),
            lambda: self.run_.ended(),
            lambda: self.run_.stop(1),
            lambda: self.run_.exited(),
            lambda: self.run_.ended(),
        ]
        for happen in inputs:
            happen()
            self.clock.advance(100)
        self.assertOver()

    def test_child_already_gone(self) -> None:
        """A signal that comes too late hits nobody and fails nobody."""
        self.a_run()
        self.child.gone = True
        self.run_.stop(1)
        self.clock.advance(1)
        self.assertEqual([], self.child.signals)
