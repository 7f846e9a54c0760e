"""What one job's process does with its output, its exit and its leftovers. On a Clock, without a process."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessTerminated
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.support.fakes import FakeOutput, FakeTransport
from txworker.jobs import EndReason, Exit, Usage
from txworker.leftovers.process_table_scan import ProcessTableScan
from txworker.process.job_leftovers import JobLeftovers
from txworker.process.job_process import JobProcess
from txworker.process.time_limits import TimeLimits


class Transport(FakeTransport):
    """A transport of a process that does not exist."""

    pid = 2**22 + 1
    usage = Usage(1.0, 2.0, 3)
    core_dumped = True
    cgroup_removed = False

    def __init__(self) -> None:
        super().__init__()
        self.abandoned: Deferred[None] = Deferred()

    def abandon(self) -> Deferred[None]:
        return self.abandoned


class Listener:
    """Records the events."""

    def __init__(self) -> None:
        self.exits: list[Exit] = []
        self.reasons: list[EndReason] = []

    def overdue(self, reason: EndReason) -> None:
        self.reasons.append(reason)

    def end_blocked(self, problem: str) -> None:
        raise AssertionError(problem)

    def ended(self, exit: Exit) -> None:
        self.exits.append(exit)


class JobProcessTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.output = FakeOutput()
        self.listener = Listener()

    def process(self, quiet_seconds: float | None = None) -> JobProcess:
        limits = TimeLimits(10, 2, quiet_seconds=quiet_seconds)
        leftovers = JobLeftovers("id", ProcessTableScan(), None, keep=True)
        process = JobProcess("id", self.output, self.listener, self.clock, limits, leftovers)
        transport: Any = Transport()
        process.makeConnection(transport)
        return process

    def test_output_itself(self) -> None:
        """Pipes write to the output that the launcher was given, with nothing in between."""
        self.assertIs(self.output, self.process().output)

    def test_quiet_timeout(self) -> None:
        """Each way of printing counts against quietTimeout, and the output gets it."""
        process = self.process(quiet_seconds=5)
        for prints in (
            lambda: process.output.ready(1),
            lambda: process.childDataReceived(1, b"x"),
            lambda: process.output.pipe_copied(1),
        ):
            self.clock.advance(4)
            prints()
        self.clock.advance(4)
        self.assertEqual((b"x", []), (self.output.data, self.listener.reasons))
        self.clock.pump([1, 0.1])
        self.assertEqual([EndReason.QUIET], self.listener.reasons)
        process.processExited(Failure(ProcessTerminated(1)))

    def test_reason(self) -> None:
        """The shim is told why the process is being ended, for the next worker."""
        process = self.process()
        process.stop(5, EndReason.WORKER_STOPPING)
        self.assertEqual([("worker stopping", 5.0)], process.transport.enforced)
        process = self.process()
        process.resume_stop(3.0, EndReason.TIMEOUT)
        self.assertEqual([("timeout", 3.0)], process.transport.enforced)

    def test_exit(self) -> None:
        """The listener gets how it exited, what it used and whether it left a core dump, when its output is closed."""
        process = self.process()
        reason = Failure(ProcessTerminated(None, 11))
        process.processExited(reason)
        self.assertEqual([], self.listener.exits)
        process.processEnded(reason)
        self.assertEqual([Exit(None, 11, Transport.usage, 0, core_dumped=True)], self.listener.exits)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_abandoned_after_its_exit(self) -> None:
        """A process that exited before its shim ended has one end: abandon() fires with it, the listener gets none."""
        process = self.process()
        reason = Failure(ProcessTerminated(3))
        process.processExited(reason)
        abandoned = process.abandon()
        process.processEnded(reason)
        self.assertNoResult(abandoned)
        process.transport.abandoned.callback(None)
        self.assertEqual(
            (Exit(3, None, Transport.usage, 0, core_dumped=True), []),
            (self.successResultOf(abandoned), self.listener.exits),
        )
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_abandoned(self) -> None:
        """The exit of a process whose shim ended first is unknown."""
        process = self.process()
        abandoned = process.abandon()
        process.transport.abandoned.callback(None)
        self.assertEqual((None, []), (self.successResultOf(abandoned), self.listener.exits))
