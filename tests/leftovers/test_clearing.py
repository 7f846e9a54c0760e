"""Ending what a job left: TERM, grace period, KILL until nobody is left. On a Clock, with made-up processes."""

from __future__ import annotations

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from txworker.leftovers.clearing import Clearing, Left
from txworker.linux.procfs import Process


def a_process(pid: int, start: int = 1) -> Process:
    return Process(pid, 1, pid, start, False)


class FakeKin:
    """A job's leftovers, by pid, and what was done to them; `dies_of` says who ends by what."""

    def __init__(self, *pids: int) -> None:
        self.alive = {pid: a_process(pid) for pid in pids}
        self.dies_of = dict.fromkeys(pids, "TERM")
        self.hidden = False
        self.problem: Exception | None = None
        self.looks = 0
        self.terms: list[int] = []
        self.kills: list[list[int]] = []
        self.born_when_killed: list[int] = []
        self.closed = 0
        self.unseen = 0

    def look(self) -> Deferred[Left]:
        self.looks += 1
        return succeed(Left(list(self.alive.values()), self.hidden)) if self.problem is None else fail(self.problem)

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

    def kill_unseen(self) -> None:
        self.unseen += 1

    def close(self) -> None:
        self.closed += 1


class ClearingTests(SynchronousTestCase):
    def a_clearing(self, kin: FakeKin, grace_seconds: float = 5.0) -> Clearing:
        self.clock, self.counts = Clock(), list[int]()
        self.kin = kin
        self.clearing = clearing = Clearing(self.clock, "job", kin, self.counts.append)
        clearing.begin(grace_seconds)
        return clearing

    def pass_time(self, seconds: float) -> None:
        for _ in range(round(seconds * 1000)):
            self.clock.advance(0.001)

    def assertOver(self, count: int) -> None:
        self.assertEqual(([count], 1), (self.counts, self.kin.closed))
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_nobody(self) -> None:
        """A job that leaves nobody is over at once, without a timer."""
        self.a_clearing(FakeKin())
        self.assertOver(0)
        self.assertEqual(1, self.kin.looks)

    def test_term_is_enough(self) -> None:
        """Who ends by TERM is not killed; that is noticed long before the grace period is over."""
        self.a_clearing(FakeKin(5, 6))
        self.pass_time(0.01)
        self.assertOver(2)
        self.assertEqual(([5, 6], []), (self.kin.terms, self.kin.kills))

    def test_kill_after_grace(self) -> None:
        """Who ignores TERM is asked once and killed when the grace period is over, not before."""
        kin = FakeKin(5)
        kin.dies_of = {5: "KILL"}
        self.a_clearing(kin)
        self.pass_time(4.99)
        self.assertEqual([], kin.kills)
        self.pass_time(0.02)
        self.assertOver(1)
        self.assertEqual(([5], [[5]]), (kin.terms, kin.kills))

    def test_no_grace(self) -> None:
        """Without a grace period nobody is asked first."""
        self.a_clearing(FakeKin(5), 0)
        self.pass_time(0.01)
        self.assertOver(1)
        self.assertEqual(([], [[5]]), (self.kin.terms, self.kin.kills))

    def test_newcomers(self) -> None:
        """Who appears during the grace period is asked, too, and counted; nobody is asked or counted twice."""
        kin = FakeKin(5)
        kin.dies_of = {5: "KILL", 6: "KILL"}
        self.a_clearing(kin)
        kin.alive[6] = a_process(6)
        self.pass_time(5.1)
        self.assertOver(2)
        self.assertEqual([5, 6], kin.terms)

    def test_same_number_again(self) -> None:
        """A number that comes back with another start is somebody else, who is asked and counted as well."""
        self.a_clearing(FakeKin(5))
        self.kin.alive[5] = a_process(5, start=2)
        self.pass_time(0.01)
        self.assertOver(2)
        self.assertEqual([5, 5], self.kin.terms)

    def test_found_while_killing(self) -> None:
        """Whom only the killing found counts, too."""
        kin = FakeKin(5)
        kin.born_when_killed = [6, 7]
        self.a_clearing(kin, 0)
        self.pass_time(0.01)
        self.assertOver(3)

    def test_rounds(self) -> None:
        """Killing is repeated until nobody is left, often at first and then at least ten times a second."""
        kin = FakeKin(5)
        kin.dies_of = {5: "nothing"}
        self.a_clearing(kin, 0)
        self.pass_time(0.02)
        self.assertGreaterEqual(len(kin.kills), 3)
        before = len(kin.kills)
        self.pass_time(1)
        self.assertGreaterEqual(len(kin.kills), before + 9)
        kin.dies_of = {}
        self.pass_time(0.3)
        self.assertOver(1)

    def test_give_up(self) -> None:
        """Whom even KILL does not end holds the job up for ten seconds, and its record names it."""
        kin = FakeKin(5)
        kin.dies_of = {5: "nothing"}
        self.a_clearing(kin, 1)
        self.pass_time(10.9)
        self.assertEqual([], self.counts)
        self.pass_time(0.3)
        self.assertOver(0)
        self.assertIn("process 5 still runs", self.clearing.problem)

    def test_hindered(self) -> None:
        """That it does not end is told a second after the first KILL; a clearing that ends well has no problem."""
        kin = FakeKin(5)
        kin.dies_of = {5: "nothing"}
        self.a_clearing(kin, 0)
        told: list[str] = []
        self.clearing.hindered = told.append
        self.pass_time(0.9)
        self.assertEqual([], told)
        self.pass_time(0.3)
        self.assertEqual(1, len(told))
        kin.alive.clear()
        self.pass_time(0.3)
        self.assertEqual(([1], ""), (self.counts, self.clearing.problem))

    def test_late_looks(self) -> None:
        """When a look takes so long that the time to give up has come with it, who is found is killed all the same."""
        kin = FakeKin(5)
        kin.dies_of = {5: "KILL"}
        answer: Deferred[Left] = Deferred()
        self.patch(kin, "look", lambda: answer)
        self.a_clearing(kin, 1)
        self.clock.advance(20)
        found = Left(list(kin.alive.values()))
        del kin.look
        answer.callback(found)
        self.assertEqual([[5]], kin.kills)
        self.pass_time(0.01)
        self.assertOver(1)

    def test_few_looks(self) -> None:
        """Nobody is given up who was killed a few times only, however long that has taken."""
        kin = FakeKin(5)
        kin.dies_of = {5: "nothing"}
        self.a_clearing(kin, 0)
        for _ in range(10):
            self.clock.advance(10)
        self.assertEqual([], self.counts)
        self.pass_time(5)
        self.assertOver(0)

    def test_hidden(self) -> None:
        """Somebody of whom no more is known than that is killed when the grace period is over."""
        kin = FakeKin()
        kin.hidden = True
        self.a_clearing(kin, 1)
        self.pass_time(0.9)
        self.assertEqual(([], []), (self.counts, kin.kills))
        self.pass_time(0.2)
        self.assertEqual([], kin.kills[0])
        kin.hidden = False
        self.pass_time(0.2)
        self.assertOver(0)

    def test_hurry(self) -> None:
        """A stop shortens the grace period, and never lengthens it."""
        kin = FakeKin(5)
        kin.dies_of = {5: "KILL"}
        clearing = self.a_clearing(kin, 5)
        clearing.hurry(100)
        self.pass_time(1)
        clearing.hurry(0.5)
        self.pass_time(0.4)
        self.assertEqual([], kin.kills)
        self.pass_time(0.2)
        self.assertOver(1)

    def test_hurry_without_grace(self) -> None:
        """No grace period any more: killed at once."""
        kin = FakeKin(5)
        kin.dies_of = {5: "KILL"}
        self.a_clearing(kin, 5).hurry(0)
        self.assertEqual([[5]], kin.kills)
        self.pass_time(0.1)
        self.assertOver(1)

    def test_strike(self) -> None:
        """A strike kills whoever there is, once, and is not the end of anything."""
        kin, clock, counts = FakeKin(1, 2), Clock(), list[int]()
        clearing = Clearing(clock, "job", kin, counts.append)
        clearing.strike()
        self.assertEqual(([[1, 2]], [], []), (kin.kills, counts, clock.getDelayedCalls()))
        clearing.begin(0)
        self.assertEqual([2], counts)

    def test_cannot_look(self) -> None:
        """While nobody can be looked for (no descriptors left), nobody is taken for gone."""
        kin = FakeKin(5)
        kin.problem = OSError(24, "Too many open files")
        self.a_clearing(kin, 1)
        self.pass_time(0.5)
        self.assertEqual(([], 1), (self.counts, len(self.flushLoggedErrors(OSError))))
        kin.problem = None
        self.pass_time(0.3)
        self.assertOver(1)

    def test_can_never_look(self) -> None:
        """However long that lasts the job is not over; what needs no look is killed; and then it goes on as ever."""
        kin = FakeKin(5)
        kin.dies_of = {5: "KILL"}
        kin.problem = OSError(24, "Too many open files")
        self.a_clearing(kin, 1)
        self.pass_time(0.9)
        self.assertEqual(0, kin.unseen)
        for _ in range(100):
            self.pass_time(0.1)
            self.clock.advance(10)
        self.assertEqual(([], 1, True), (self.counts, len(self.flushLoggedErrors(OSError)), kin.unseen >= 100))
        kin.problem = None
        self.pass_time(0.3)
        self.assertOver(1)
        self.assertEqual([[5]], kin.kills)
