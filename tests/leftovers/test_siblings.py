"""Children of the spawn thread that it did not launch: told from launches, ended with their job."""

from __future__ import annotations

import os
from collections.abc import Iterator
from signal import SIGKILL

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from txworker.leftovers import carried, descendants, hunt, siblings
from txworker.leftovers.census import Census
from txworker.leftovers.siblings import FEW
from txworker.leftovers.sweeping import SWEEP_SECONDS
from txworker.linux.procfs import Process

OWN, SPAWNING = os.getpid(), 77


class FakeThread:
    """Children of the spawn thread, which have no children themselves."""

    def __init__(self) -> None:
        self.processes: dict[int, Process] = {}
        self.signs: dict[int, str] = {}
        self.looks = 0
        self.killed: list[int] = []
        self.problem: OSError | None = None

    def add(self, pid: int, session: int = 1, sign: str = "", zombie: bool = False, start: int = 500) -> None:
        self.processes[pid] = Process(pid, OWN, session, start, zombie)
        self.signs[pid] = sign

    def children(self) -> list[int]:
        self.looks += 1
        if self.problem is not None:
            raise self.problem
        return list(self.processes)

    def tree(self, root: int, gone: set[int]) -> Iterator[Process]:
        if root in self.processes:
            yield self.processes[root]

    def send(self, process: Process, number: int) -> None:
        if number == SIGKILL:
            del self.processes[process.pid]
            self.killed.append(process.pid)


class SiblingsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.thread, self.clock = FakeThread(), Clock()
        self.patch(descendants, "ThreadChildren", lambda pid, thread_id: list)
        self.patch(siblings, "ThreadChildren", lambda pid, thread_id: lambda: self.thread.children())
        for room in (descendants, siblings):
            self.patch(room, "read_process", self.thread.processes.get)
        self.patch(descendants, "tree", self.thread.tree)
        self.patch(hunt, "send", self.thread.send)
        self.patch(carried, "_signs", lambda process: [self.thread.signs[process.pid]])
        self.census = Census(self.clock, OWN, SPAWNING)
        self.thread.add(100)
        self.census.enter(100, "a")

    def many(self) -> None:
        """So many jobs that nobody looks at each end."""
        for number in range(FEW + 20):
            self.thread.add(1000 + number)
            self.census.enter(1000 + number, f"other-{number}")

    def left(self, job_id: str) -> list[int]:
        return sorted(process.pid for process in self.successResultOf(self.census.of(job_id)))

    def known(self) -> list[int]:
        return self.census.descendants.siblings.known

    def exits(self, pid: int) -> None:
        """A job's own process, which stays a zombie."""
        self.census.exited(pid)

    def over(self, pid: int, job_id: str) -> None:
        """That job ends, and nobody is seen to be left."""
        self.census.exited(pid)
        self.assertEqual([], self.left(job_id))
        del self.thread.processes[pid]
        self.census.leave(pid)

    def test_left(self) -> None:
        """It is of the job whose session or sign it has, and otherwise told by elimination, as an orphan is."""
        self.thread.add(300, session=100)
        self.thread.add(301, sign="a")
        self.thread.add(302)
        self.assertEqual([300, 301], self.left("a"))
        self.census.exited(100)
        self.assertEqual([300, 301, 302], self.left("a"))

    def test_killed(self) -> None:
        """It is killed with its job, at the worker's end whatever job it is of; no job's own process is."""
        self.thread.add(300, sign="a")
        self.census.kill("a", [self.thread.processes[300]])
        self.assertEqual(([], [300]), (self.left("a"), self.thread.killed))
        self.thread.add(301)
        self.census.kill_everybody()
        self.assertEqual(([100], [300, 301]), (list(self.thread.processes), self.thread.killed))

    def test_launch_under_way(self) -> None:
        """A child whose launch we have not heard of yet is nobody's sibling, whatever it shows before its exec."""
        number = self.census.expect("b")
        self.thread.add(300)
        for sign in ("", "b"):
            self.thread.signs[300] = sign
            for _ in range(3):
                self.assertEqual(([], []), (self.left("a"), self.known()))
                self.census.kill_everybody()
        self.assertEqual([], self.thread.killed)
        self.census.leave(number)
        self.census.enter(300, "b")
        self.assertEqual(([], []), (self.left("b"), self.known()))

    def test_beside_launches(self) -> None:
        """Beside launches one is known by a sign that none of them has, or by having been there before all of them."""
        first = self.census.expect("b")
        self.thread.add(300)
        self.thread.add(301, sign="a")
        self.left("a")
        self.assertEqual([301], self.known())
        second = self.census.expect("c")
        self.left("a")
        self.assertEqual([301], self.known())
        self.census.leave(first)
        self.left("a")
        self.assertEqual([301, 300], self.known())
        self.thread.add(300, start=501)  # somebody else with its number, of the second launch perhaps
        self.left("a")
        self.assertEqual([301], self.known())
        self.census.leave(second)
        self.left("a")
        self.assertEqual([301, 300], self.known())

    def test_many_jobs(self) -> None:
        """Among many jobs an end costs no look; who was left is found and ended within a second, and waited for."""
        self.many()
        self.thread.add(300, sign="a")
        self.thread.add(301, session=100)
        self.thread.add(302, sign="other-1")
        self.over(100, "a")
        self.assertEqual(0, self.thread.looks)
        self.clock.advance(SWEEP_SECONDS)
        self.assertEqual([300, 301], sorted(self.thread.killed))
        self.clock.advance(SWEEP_SECONDS)
        self.assertEqual([], self.clock.getDelayedCalls())
        self.assertEqual([302], self.left("other-1"))  # it is known by now, though nobody looked again

    def test_nobody_is_late(self) -> None:
        """One look serves all that ended meanwhile; and then nobody looks, until a child exits."""
        self.many()
        for number in range(10):
            self.over(1000 + number, f"other-{number}")
        self.clock.advance(SWEEP_SECONDS)
        self.assertEqual((1, []), (self.thread.looks, self.clock.getDelayedCalls()))
        self.exits(1010)
        self.clock.advance(SWEEP_SECONDS)
        self.assertEqual((2, []), (self.thread.looks, self.clock.getDelayedCalls()))

    def test_slow_look(self) -> None:
        """A look that took long is not repeated before ten times as long has passed."""
        self.many()
        slow = self.thread.children

        def slowly() -> list[int]:
            self.clock.rightNow += 0.5
            return slow()

        self.patch(self.thread, "children", slowly)
        self.exits(1010)
        self.clock.advance(SWEEP_SECONDS)
        self.exits(1010)
        self.clock.advance(4.9)
        self.assertEqual(1, self.thread.looks)
        self.clock.advance(0.2)
        self.assertEqual(2, self.thread.looks)

    def test_cannot_look(self) -> None:
        """While there is no descriptor to look with, who is owed a look stays so."""
        self.many()
        self.thread.add(300, sign="a")
        self.over(100, "a")
        self.thread.problem = OSError(24, "Too many open files")
        self.clock.advance(SWEEP_SECONDS)
        self.thread.problem = None
        self.clock.advance(SWEEP_SECONDS)
        self.assertEqual([300], self.thread.killed)
