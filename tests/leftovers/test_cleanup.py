"""Ending what a job left: TERM, grace period, KILL until nothing is left. On a Clock, with made-up processes."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from txworker.leftovers.cleanup import Cleanup
from txworker.leftovers.job_processes import Remaining
from txworker.linux.procfs import Process


def a_process(pid: int, start: int = 1) -> Process:
    return Process(pid, 1, pid, start, False)


class FakeProcesses:
    """A job's leftovers, by pid, and what was done to them; `dies_of` says by what each ends."""

    def __init__(self, *pids: int) -> None:
        self.alive = {pid: a_process(pid) for pid in pids}
        self.dies_of = dict.fromkeys(pids, "TERM")
        self.more = False
        self.problem: Exception | None = None
        self.scans = 0
        self.terms: list[int] = []
        self.kills: list[list[int]] = []
        self.born_when_killed: list[int] = []
        self.closed = 0
        self.cgroup_kills = 0

    def remaining(self) -> Deferred[Remaining]:
        self.scans += 1
        return succeed(Remaining(list(self.alive.values()), self.more)) if self.problem is None else fail(self.problem)

    def term(self, process: Process) -> None:
        self.terms.append(process.pid)
        if self.dies_of.get(process.pid) == "TERM":
            del self.alive[process.pid]

    def kill(self, found: list[Process]) -> list[Process]:
        self.kills.append([process.pid for process in found])
        born = [a_process(pid) for pid in self.born_when_killed]
        for process in found:
            if self.dies_of.get(process.pid) != "nothing":
                self.alive.pop(process.pid, None)
        return found + born

    def kill_cgroup(self) -> None:
        self.cgroup_kills += 1

    def close(self) -> None:
        self.closed += 1


class CleanupTests(SynchronousTestCase):
    def a_cleanup(self, processes: FakeProcesses, grace_seconds: float = 5.0) -> Cleanup:
        self.clock, self.counts = Clock(), list[int]()
        self.processes = processes
        self.cleanup = cleanup = Cleanup(self.clock, "job", processes, self.counts.append)
        cleanup.start(grace_seconds)
        return cleanup

    def pass_time(self, seconds: float) -> None:
        for _ in range(round(seconds * 1000)):
            self.clock.advance(0.001)

    def assertDone(self, count: int) -> None:
        self.assertEqual(([count], 1), (self.counts, self.processes.closed))
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_nothing(self) -> None:
        """The cleanup of a job that left nothing is done at once, without a timer."""
        self.a_cleanup(FakeProcesses())
        self.assertDone(0)
        self.assertEqual(1, self.processes.scans)

    def test_term_is_enough(self) -> None:
        """A process that ends by TERM is not killed; that is noticed long before the grace period is over."""
        self.a_cleanup(FakeProcesses(5, 6))
        self.pass_time(0.01)
        self.assertDone(2)
        self.assertEqual(([5, 6], []), (self.processes.terms, self.processes.kills))

    def test_kill_after_grace(self) -> None:
        """A process that ignores TERM gets it once, and is killed when the grace period is over, not before."""
        processes = FakeProcesses(5)
        processes.dies_of = {5: "KILL"}
        self.a_cleanup(processes)
        self.pass_time(4.99)
        self.assertEqual([], processes.kills)
        self.pass_time(0.02)
        self.assertDone(1)
        self.assertEqual(([5], [[5]]), (processes.terms, processes.kills))

    def test_no_grace(self) -> None:
        """Without a grace period there is no TERM."""
        self.a_cleanup(FakeProcesses(5), 0)
        self.pass_time(0.01)
        self.assertDone(1)
        self.assertEqual(([], [[5]]), (self.processes.terms, self.processes.kills))

    def test_abandoned(self) -> None:
        """A cleanup that is abandoned leaves no timer."""
        processes = FakeProcesses(5)
        processes.dies_of = {5: "KILL"}
        cleanup = self.a_cleanup(processes)
        self.pass_time(0.1)
        cleanup.abandon()
        self.assertEqual(([], []), (self.counts, self.clock.getDelayedCalls()))

    def test_abandoned_during_a_scan(self) -> None:
        """A scan that answers late signals nothing, reports nothing and is not repeated."""
        for answer in (Remaining([]), Remaining([a_process(5)]), Failure(OSError("the scan is closed"))):
            pending: Deferred[Any] = Deferred()
            processes = FakeProcesses()
            self.patch(processes, "remaining", lambda pending=pending: pending)
            self.a_cleanup(processes).abandon()
            pending.callback(answer)
            self.assertEqual(([], [], []), (self.counts, processes.terms, self.clock.getDelayedCalls()))

    def test_newcomers(self) -> None:
        """A process that appears during the grace period gets TERM, too; none gets it, or is counted, twice."""
        processes = FakeProcesses(5)
        processes.dies_of = {5: "KILL", 6: "KILL"}
        self.a_cleanup(processes)
        processes.alive[6] = a_process(6)
        self.pass_time(5.1)
        self.assertDone(2)
        self.assertEqual([5, 6], processes.terms)

    def test_same_number_again(self) -> None:
        """Another process that gets the same pid has another start: it gets TERM and is counted as well."""
        self.a_cleanup(FakeProcesses(5))
        self.processes.alive[5] = a_process(5, start=2)
        self.pass_time(0.01)
        self.assertDone(2)
        self.assertEqual([5, 5], self.processes.terms)

    def test_found_while_killing(self) -> None:
        """A process that only kill() found counts, too."""
        processes = FakeProcesses(5)
        processes.born_when_killed = [6, 7]
        self.a_cleanup(processes, 0)
        self.pass_time(0.01)
        self.assertDone(3)

    def test_rounds(self) -> None:
        """KILL is repeated until nothing is left, often at first and then at least ten times a second."""
        processes = FakeProcesses(5)
        processes.dies_of = {5: "nothing"}
        self.a_cleanup(processes, 0)
        self.pass_time(0.02)
        self.assertGreaterEqual(len(processes.kills), 3)
        before = len(processes.kills)
        self.pass_time(1)
        self.assertGreaterEqual(len(processes.kills), before + 9)
        processes.dies_of = {}
        self.pass_time(0.3)
        self.assertDone(1)

    def test_give_up(self) -> None:
        """A process that KILL does not end holds the job up for ten seconds, and its record names the process."""
        processes = FakeProcesses(5)
        processes.dies_of = {5: "nothing"}
        self.a_cleanup(processes, 1)
        self.pass_time(10.9)
        self.assertEqual([], self.counts)
        self.pass_time(0.3)
        self.assertDone(0)
        self.assertIn("process 5 still runs", self.cleanup.problem)

    def test_end_blocked(self) -> None:
        """What still runs a second after the first KILL is reported; a cleanup that ends well has no problem."""
        processes = FakeProcesses(5)
        processes.dies_of = {5: "nothing"}
        self.a_cleanup(processes, 0)
        told: list[str] = []
        self.cleanup.end_blocked = told.append
        self.pass_time(0.9)
        self.assertEqual([], told)
        self.pass_time(0.3)
        self.assertEqual(1, len(told))
        processes.alive.clear()
        self.pass_time(0.3)
        self.assertEqual(([1], ""), (self.counts, self.cleanup.problem))

    def test_late_looks(self) -> None:
        """When a scan takes so long that it is time to give up, what it finds is killed all the same."""
        processes = FakeProcesses(5)
        processes.dies_of = {5: "KILL"}
        answer: Deferred[Remaining] = Deferred()
        self.patch(processes, "remaining", lambda: answer)
        self.a_cleanup(processes, 1)
        self.clock.advance(20)
        found = Remaining(list(processes.alive.values()))
        del processes.remaining
        answer.callback(found)
        self.assertEqual([[5]], processes.kills)
        self.pass_time(0.01)
        self.assertDone(1)

    def test_few_looks(self) -> None:
        """A process that got KILL only a few times is not given up, however long that took."""
        processes = FakeProcesses(5)
        processes.dies_of = {5: "nothing"}
        self.a_cleanup(processes, 0)
        for _ in range(10):
            self.clock.advance(10)
        self.assertEqual([], self.counts)
        self.pass_time(5)
        self.assertDone(0)

    def test_hidden(self) -> None:
        """When the cgroup is not empty but nothing is found, it is killed when the grace period is over."""
        processes = FakeProcesses()
        processes.more = True
        self.a_cleanup(processes, 1)
        self.pass_time(0.9)
        self.assertEqual(([], []), (self.counts, processes.kills))
        self.pass_time(0.2)
        self.assertEqual([], processes.kills[0])
        processes.more = False
        self.pass_time(0.2)
        self.assertDone(0)

    def test_shorten_grace(self) -> None:
        """A stop shortens the grace period, and never lengthens it."""
        processes = FakeProcesses(5)
        processes.dies_of = {5: "KILL"}
        cleanup = self.a_cleanup(processes, 5)
        cleanup.shorten_grace(100)
        self.pass_time(1)
        cleanup.shorten_grace(0.5)
        self.pass_time(0.4)
        self.assertEqual([], processes.kills)
        self.pass_time(0.2)
        self.assertDone(1)

    def test_shortened_to_nothing(self) -> None:
        """Without any grace period left the processes are killed at once."""
        processes = FakeProcesses(5)
        processes.dies_of = {5: "KILL"}
        self.a_cleanup(processes, 5).shorten_grace(0)
        self.assertEqual([[5]], processes.kills)
        self.pass_time(0.1)
        self.assertDone(1)

    def test_kill_once(self) -> None:
        """kill_once() kills what there is, once, and is not the end of the cleanup."""
        processes, clock, counts = FakeProcesses(1, 2), Clock(), list[int]()
        cleanup = Cleanup(clock, "job", processes, counts.append)
        cleanup.kill_once()
        self.assertEqual(([[1, 2]], [], []), (processes.kills, counts, clock.getDelayedCalls()))
        cleanup.start(0)
        self.assertEqual([2], counts)

    def test_cannot_scan(self) -> None:
        """While no scan is possible (no descriptors left), no process is taken for gone; the log says so, once."""
        processes = FakeProcesses(5)
        processes.problem = OSError(24, "Too many open files")
        with capturedLogs() as events:
            self.a_cleanup(processes, 1)
            self.pass_time(0.5)
        self.assertEqual(
            ([], ["What job job left behind cannot be found now: [Errno 24] Too many open files. Trying again."]),
            (self.counts, list(map(formatEvent, events))),
        )
        processes.problem = None
        self.pass_time(0.3)
        self.assertDone(1)

    def test_mistake(self) -> None:
        """The same for a mistake in the scan, of which the log has the traceback."""
        processes = FakeProcesses(5)
        processes.problem = ValueError("a mistake")
        self.a_cleanup(processes, 1)
        self.pass_time(0.5)
        self.assertEqual(([], 1), (self.counts, len(self.flushLoggedErrors(ValueError))))
        processes.problem = None
        self.pass_time(0.3)
        self.assertDone(1)

    def test_can_never_scan(self) -> None:
        """However long that lasts the cleanup is not done; the cgroup is killed, as that needs no scan."""
        processes = FakeProcesses(5)
        processes.dies_of = {5: "KILL"}
        processes.problem = OSError(24, "Too many open files")
        self.a_cleanup(processes, 1)
        self.pass_time(0.9)
        self.assertEqual(0, processes.cgroup_kills)
        for _ in range(100):
            self.pass_time(0.1)
            self.clock.advance(10)
        self.assertEqual(([], True), (self.counts, processes.cgroup_kills >= 100))
        processes.problem = None
        self.pass_time(0.3)
        self.assertDone(1)
        self.assertEqual([[5]], processes.kills)
