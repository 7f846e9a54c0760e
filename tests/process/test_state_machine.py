"""TERM, grace period, KILL; the time limits; the leftovers; the bounded wait for the last output. All on a Clock."""

from __future__ import annotations

from signal import SIGCONT, SIGHUP, SIGKILL, SIGTERM

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.support.fakes import FakeCleanup, FakeTransport
from txworker.jobs import EndReason
from txworker.process.state_machine import Context, StateMachine
from txworker.process.time_limits import TimeLimits
from txworker.process.timers import Timers


class StateMachineTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.transport = FakeTransport()
        self.overdue: list[EndReason] = []

    def begin(
        self,
        timeout: float | None = None,
        quiet: float | None = None,
        keep: bool = False,
        lease: float | None = None,
    ) -> None:
        self.cleanup = FakeCleanup()
        self.done: list[bool] = []
        self.blocked: list[float] = []
        self.context = Context(
            Timers(self.clock),
            TimeLimits(10, 2, timeout, quiet, lease),
            None if keep else self.cleanup,
            self.overdue.append,
            lambda: self.blocked.append(self.clock.seconds()),
            lambda: self.done.append(True),
        )
        self.machine = StateMachine(self.context)
        self.machine.begin(self.transport)

    def assertDone(self) -> None:
        self.assertEqual([True], self.done)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_term_patience_kill(self) -> None:
        """A process that ignores TERM is killed when the grace period is over, and no timer is left."""
        self.begin()
        self.machine.stop(5)
        self.clock.advance(4.9)
        self.assertEqual([SIGTERM, SIGCONT], self.transport.signals)
        self.clock.advance(0.1)
        self.assertEqual([SIGTERM, SIGCONT, SIGKILL], self.transport.signals)
        self.machine.exited()
        self.machine.output_closed()
        self.machine.cleaned_up()
        self.assertDone()

    def test_terminal(self) -> None:
        """A process with a terminal gets HUP, too: an interactive shell ignores TERM."""
        self.begin()
        self.context.has_terminal = True
        self.machine.stop(5)
        self.assertEqual([SIGHUP, SIGTERM, SIGCONT], self.transport.signals)

    def test_no_grace(self) -> None:
        """Without a grace period KILL is sent, and nothing before it."""
        self.begin()
        self.machine.stop(0)
        self.clock.advance(0)
        self.assertEqual([SIGKILL], self.transport.signals)

    def test_earlier_end_counts(self) -> None:
        """A second stop can shorten the grace period, but not lengthen it."""
        self.begin()
        self.machine.stop(10)
        self.machine.stop(100)
        self.clock.advance(1)
        self.machine.stop(2)
        self.clock.advance(2)
        self.assertEqual([SIGTERM, SIGCONT, SIGKILL], self.transport.signals)

    def test_exited_in_time(self) -> None:
        """No limit ends a process that has exited by itself, however late the worker is told, or tells itself."""
        for limit in ({"timeout": 30.0}, {"quiet": 30.0}, {"lease": 30.0}):
            self.begin(**limit)  # type: ignore[arg-type]
            self.transport.has_exited = True
            self.clock.pump([10.0] * 20)
            self.assertEqual(([], []), (self.overdue, self.transport.signals))
            self.machine.exited()
            self.machine.output_closed()
            self.machine.cleaned_up()
            self.assertDone()

    def test_timeout(self) -> None:
        """A job that reaches its timeout is ended like a stopped one, after the reason is reported."""
        self.begin(timeout=30)
        self.clock.advance(30)
        self.assertEqual(([EndReason.TIMEOUT], [SIGTERM, SIGCONT]), (self.overdue, self.transport.signals))
        self.clock.advance(10)
        self.assertEqual([SIGTERM, SIGCONT, SIGKILL], self.transport.signals)

    def test_quiet_timeout(self) -> None:
        """A job without output for quietTimeout is ended; each output restarts the time."""
        self.begin(quiet=5)
        self.clock.advance(4)
        self.context.limit_timers.printed()
        self.clock.advance(4.5)
        self.assertEqual([], self.overdue)
        self.clock.advance(0.5)
        self.clock.advance(0.1)
        self.assertEqual([EndReason.QUIET], self.overdue)

    def test_lease(self) -> None:
        """A job whose lease runs out is ended like a stopped one, after the reason is reported."""
        self.begin(lease=30)
        self.clock.advance(30)
        self.assertEqual(([EndReason.LEASE], [SIGTERM, SIGCONT]), (self.overdue, self.transport.signals))
        self.assertEqual([("lease", 40.0)], self.transport.enforced)
        self.clock.advance(10)
        self.assertEqual([SIGTERM, SIGCONT, SIGKILL], self.transport.signals)

    def test_quiet_while_we_stood_still(self) -> None:
        """After the worker itself was suspended, output is read before quietTimeout is checked."""
        self.begin(quiet=5)
        self.clock.advance(60)
        self.context.limit_timers.printed()
        self.clock.advance(4)
        self.assertEqual([], self.overdue)

    def test_killed_and_still_there(self) -> None:
        """While a killed process is not seen to exit, because it is traced, the rest of its job is killed."""
        self.begin()
        self.machine.stop(0)
        self.clock.pump([0, 0.9])
        self.assertEqual(0, self.cleanup.kills)
        self.clock.pump([0.1, 1])
        self.assertEqual(2, self.cleanup.kills)
        self.machine.exited()
        self.machine.output_closed()
        self.machine.cleaned_up()
        self.assertDone()

    def test_may_not_be_signalled(self) -> None:
        """A process that must not be signalled is reported; KILL is tried again, because it may be allowed later."""
        self.begin()
        self.transport.forbidden = True
        self.machine.stop(1)
        self.assertEqual(2, len(self.blocked))
        self.clock.pump([1, 1])
        self.assertEqual(4, len(self.blocked))
        self.transport.forbidden = False
        self.clock.advance(1)
        self.assertEqual([SIGKILL], self.transport.signals)

    def test_does_not_end(self) -> None:
        """A killed process that does not end is reported once, some seconds later."""
        self.begin()
        self.machine.stop(0)
        self.clock.pump([0] + [1] * 8)
        self.assertEqual(1, len(self.blocked))

    def test_stopped_is_not_overdue(self) -> None:
        """After a stop no time limit is reported."""
        self.begin(timeout=5, quiet=5, lease=5)
        self.machine.stop(20)
        self.clock.advance(6)
        self.assertEqual([], self.overdue)

    def test_leftovers_first(self) -> None:
        """A job that ended by itself is done when its leftovers have ended, which they have a bounded time for."""
        self.begin()
        self.machine.exited()
        self.machine.output_closed()
        self.assertEqual(([2], []), (self.cleanup.graces, self.done))
        self.machine.cleaned_up()
        self.assertDone()

    def test_output_held_open(self) -> None:
        """When a process outside the job holds the output open, the pipe is closed after a bounded time."""
        self.begin()
        self.machine.exited()
        self.machine.cleaned_up()
        self.clock.advance(1.9)
        self.assertFalse(self.transport.closed)
        self.clock.advance(0.1)
        self.assertTrue(self.transport.closed)
        self.machine.output_closed()
        self.assertDone()

    def test_asked_again_and_again(self) -> None:
        """A repeated stop does not lengthen the wait for the output."""
        self.begin()
        self.machine.exited()
        self.machine.cleaned_up()
        for _ in range(4):
            self.clock.advance(0.5)
            self.machine.stop(10)
        self.assertTrue(self.transport.closed)
        self.begin()
        self.transport.closed = False
        self.machine.exited()
        self.machine.cleaned_up()
        self.machine.stop(0.5)
        self.clock.advance(0.5)
        self.assertTrue(self.transport.closed)

    def test_keep(self) -> None:
        """Where leftovers are kept no process is signalled, and their output is awaited for a bounded time."""
        self.begin(keep=True)
        self.machine.exited()
        self.clock.advance(2)
        self.assertEqual(([], True), (self.transport.signals, self.transport.closed))
        self.machine.output_closed()
        self.assertDone()

    def test_rest_of_the_grace_period(self) -> None:
        """Leftovers of a stopped job have the rest of its grace period; after KILL, none."""
        self.begin()
        self.machine.stop(8)
        self.clock.advance(1)
        self.machine.exited()
        self.assertEqual([7], self.cleanup.graces)
        self.begin()
        self.machine.stop(8)
        self.clock.advance(8)
        self.machine.exited()
        self.assertEqual([0], self.cleanup.graces)

    def test_hurry(self) -> None:
        """A stop while only leftovers live shortens their grace period."""
        self.begin()
        self.machine.exited()
        self.machine.stop(1)
        self.machine.output_closed()
        self.machine.stop(0.5)
        self.assertEqual([1, 0.5], self.cleanup.shortened)

    def test_every_input_in_every_state(self) -> None:
        """Every input is accepted in every state."""
        self.begin(timeout=1)
        inputs = [
            lambda: self.machine.exited(),
            lambda: self.machine.stop(1),
            lambda: self.machine.exited(),
            lambda: self.machine.output_closed(),
            lambda: self.machine.stop(1),
            lambda: self.machine.exited(),
            lambda: self.machine.output_closed(),
            lambda: self.machine.cleaned_up(),
            lambda: self.machine.stop(1),
            lambda: self.machine.exited(),
            lambda: self.machine.output_closed(),
            lambda: self.machine.cleaned_up(),
        ]
        for happen in inputs:
            happen()
            self.clock.advance(100)
        self.assertDone()

    def test_child_already_gone(self) -> None:
        """A signal to a process group that is gone is no error."""
        self.begin()
        self.transport.gone = True
        self.machine.stop(1)
        self.clock.advance(1)
        self.assertEqual([], self.transport.signals)
