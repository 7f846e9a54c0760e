"""When the census looks, whom it waits for, and how it kills, on a made-up /proc."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from signal import SIGKILL, SIGSTOP

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from txworker.process import carried, descendants, hunt, killing, strangers
from txworker.process.census import Census
from txworker.process.procfs import Process

OWN = os.getpid()


class FakeProc:
    """Processes by pid, each with what it says of itself; `on_signal` may change the world."""

    def __init__(self) -> None:
        self.processes: dict[int, Process] = {}
        self.signs: dict[int, list[str]] = {}
        self.looks = 0
        self.signals: list[tuple[int, int]] = []
        self.waited: list[int] = []
        self.problem: OSError | None = None
        self.forks_before_stop: list[int] = []
        self.exits_when_walked = 0

    def add(
        self, pid: int, parent: int = OWN, session: int | None = None, zombie: bool = False, sign: str = ""
    ) -> None:
        self.processes[pid] = Process(pid, parent, pid if session is None else session, 500, zombie)
        self.signs[pid] = [sign]

    def own_children(self) -> list[int]:
        self.looks += 1
        if self.problem is not None:
            raise self.problem
        return [process.pid for process in self.processes.values() if process.parent == OWN]

    def children(self, pid: int) -> list[int]:
        return [process.pid for process in self.processes.values() if process.parent == pid]

    def tree(self, root: int, gone: set[int]) -> Iterable[Process]:
        if self.exits_when_walked == root:  # alive when it was listed; its child is ours now, and not in the list
            self.exits_when_walked = 0
            self.add(root + 1, sign=self.signs[root][0])
            self.add(root, zombie=True)
        queue = [root]
        for pid in queue:
            if pid in self.processes:
                yield self.processes[pid]
                queue += self.children(pid)

    def send(self, process: Process, number: int) -> None:
        if number == SIGSTOP and self.forks_before_stop:  # too late: it has a successor already, and is gone
            self.add(self.forks_before_stop.pop(0), sign=self.signs[process.pid][0])
            self.add(process.pid, zombie=True)
            return
        self.signals.append((process.pid, number))
        if number == SIGKILL:
            self.processes.pop(process.pid, None)

    def exited_child(self) -> int | None:
        return next((one.pid for one in self.processes.values() if one.parent == OWN and one.zombie), None)

    def waitpid(self, pid: int, options: int) -> tuple[int, int]:
        self.waited.append(pid)
        for process in list(self.processes.values()):
            if process.parent == pid:
                self.add(process.pid, sign=self.signs[process.pid][0])
        del self.processes[pid]
        return pid, 0


class CensusTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.proc, self.clock = FakeProc(), Clock()
        self.patch(descendants, "ThreadChildren", lambda thread_id: lambda: self.proc.own_children())
        self.patch(
            descendants, "children", lambda pid: [one.pid for one in self.proc.processes.values() if one.parent == pid]
        )
        self.patch(descendants, "read_process", self.proc.processes.get)
        self.patch(descendants, "tree", self.proc.tree)
        self.patch(hunt, "send", self.proc.send)
        self.patch(killing, "mark_of", lambda pid: self.proc.signs[pid][0] or None)
        self.patch(carried, "_signs", lambda process: self.proc.signs[process.pid])
        self.patch(descendants, "_exited_child", self.proc.exited_child)
        self.patch(os, "waitpid", self.proc.waitpid)
        self.census = self.a_census()

    def a_census(self) -> Census:
        census = Census(self.clock)
        for pid, job_id in ((100, "a"), (200, "b")):
            self.proc.add(pid)
            census.enter(pid, job_id)
        return census

    def left(self, job_id: str) -> list[int]:
        return sorted(process.pid for process in self.successResultOf(self.census.of(job_id)))

    def test_nobody(self) -> None:
        """When only jobs' own processes are there, one read tells that nobody is left."""
        self.assertEqual([], self.left("a"))
        self.assertEqual(1, self.proc.looks)

    def test_left(self) -> None:
        """Orphans and all below them are each their own job's."""
        self.proc.add(300, session=100)
        self.proc.add(301, parent=300)
        self.proc.add(302, sign="b")
        self.assertEqual([300, 301], self.left("a"))
        self.assertEqual([302], self.left("b"))

    def test_expected(self) -> None:
        """What a job starts before we have heard of its own process is its own, and nobody else's leftover."""
        for pid in (100, 200):
            self.census.exited(pid)
        self.proc.add(300)
        self.assertEqual([300], self.left("a"))  # by elimination
        for seconds, left in ((6.0, [300]), (4.0, [])):  # 300 was born 5 s after the boot
            self.patch(time, "clock_gettime", lambda clock, seconds=seconds: seconds)
            number = self.census.expect("c")
            self.assertEqual(left, self.left("a"))
            self.proc.add(301, sign="c")
            self.assertEqual([301], self.left("c"))
            self.census.leave(number)
        self.census.enter(400, "c")
        self.assertEqual([301], self.left("c"))

    def test_zombies(self) -> None:
        """Orphans that have exited are waited for; what they leave that moment is seen in the same look."""
        self.proc.add(300, zombie=True)
        self.proc.add(301, parent=300, sign="a")
        self.assertEqual([301], self.left("a"))
        self.assertEqual([300], self.proc.waited)

    def test_exits_while_walked(self) -> None:
        """Who forks and exits between two reads of ours is not the end of its job: its child is found."""
        self.proc.add(300, sign="a")
        self.proc.exits_when_walked = 300
        self.assertEqual([301], self.left("a"))

    def test_exits_before_its_signs_are_read(self) -> None:
        """Who exits when it is seen, and before it is known whose it is, is not the end of its job either."""

        def signs(process: Process) -> list[str]:
            if process.pid == 300:
                self.proc.add(300, zombie=True)
                self.proc.add(301, sign="a")
                return []
            return self.proc.signs[process.pid]

        self.patch(carried, "_signs", signs)
        self.proc.add(300, sign="a")
        self.assertEqual([301], self.left("a"))

    def test_stranger(self) -> None:
        """Who carries nothing is read twice, and waited for once it has exited; what comes of it is read like any."""
        self.patch(strangers, "_has_exited", lambda pid: self.proc.processes[pid].zombie)
        read: list[int] = []

        def signs(process: Process) -> list[str]:
            read.append(process.pid)
            return self.proc.signs[process.pid]

        self.patch(carried, "_signs", signs)
        self.proc.add(300)
        for _ in range(6):
            self.assertEqual([], self.left("a"))
            self.clock.advance(0.5)
        self.assertEqual([300, 300], read)
        self.proc.add(301, parent=300, sign="a")
        self.proc.add(300, zombie=True)
        self.assertEqual([301], self.left("a"))
        self.assertEqual([300], self.proc.waited)

    def test_never_quiet(self) -> None:
        """As long as somebody may have been overlooked nobody is told that nobody is left; who is seen is told of."""
        self.patch(self.census, "_slipped", lambda forest, left: True)
        self.proc.add(300, sign="b")
        waiting = self.census.of("a")
        self.assertEqual([300], self.left("b"))
        self.clock.advance(1)
        self.assertNoResult(waiting)
        self.patch(self.census, "_slipped", lambda forest, left: False)
        self.clock.advance(1)
        self.assertEqual([], self.successResultOf(waiting))

    def test_jobs_own_processes_are_not_waited_for(self) -> None:
        """Only their transports may do that."""
        self.proc.add(100, zombie=True)
        self.census.exited(100)
        self.assertEqual([], self.left("a"))
        self.assertEqual([], self.proc.waited)

    def test_children_from_before(self) -> None:
        """Children from before the first job are nobody's, with all below, and silence is no proof beside them."""
        self.proc.processes.clear()
        self.proc.add(50, sign="a")
        self.census = self.a_census()
        self.census.exited(100)
        self.census.exited(200)
        self.proc.add(51, parent=50, sign="a")
        self.proc.add(300)
        self.assertEqual([], self.left("a"))
        self.census.kill_everybody()
        self.assertEqual([], self.proc.signals)

    def test_process_1(self) -> None:
        """Process 1 of a container is given everybody's orphans: silence is no proof there either."""
        self.patch(os, "getpid", lambda: 1)
        self.census = self.a_census()
        self.census.exited(100)
        self.census.exited(200)
        self.proc.add(300)
        self.assertEqual([], self.left("a"))
        self.census.kill_everybody()
        self.assertEqual([], self.proc.signals)

    def test_number_of_one_from_before_given_away(self) -> None:
        """Who was there before any job is known by start, too."""
        self.proc.add(300, sign="a")
        self.census = self.a_census()
        self.assertEqual([], self.left("a"))
        self.proc.processes[300] = Process(300, OWN, 100, 501, False)
        self.clock.advance(1)
        self.assertEqual([300], self.left("a"))

    def test_spared(self) -> None:
        """Who is spared is not even looked at, as long as nobody has waited for it."""
        self.proc.add(300, zombie=True, sign="a")
        self.census.descendants.spare(300)
        self.assertEqual(([], []), (self.left("a"), self.proc.waited))
        self.census.descendants.forget(300)
        self.clock.advance(1)
        self.assertEqual(([], [300]), (self.left("a"), self.proc.waited))

    def test_share(self) -> None:
        """A look that took long is not repeated at once: all who ask meanwhile are served by the next."""
        self.patch(self.census, "_clock", self.clock)
        slow = self.proc.own_children

        def slowly() -> list[int]:
            self.clock.rightNow += 0.01
            return slow()

        self.patch(self.proc, "own_children", slowly)
        self.assertEqual([], self.left("a"))
        waiting = [self.census.of("a"), self.census.of("b")]
        self.clock.advance(0.09)
        for one in waiting:
            self.assertNoResult(one)
        self.clock.advance(0.02)
        for one in waiting:
            self.assertEqual([], self.successResultOf(one))
        self.assertEqual(2, self.proc.looks)

    def test_sigchld(self) -> None:
        """At SIGCHLD whoever has exited is waited for, without a look at the others; then their children, too."""
        self.proc.add(299, sign="a")
        self.proc.add(300, zombie=True)
        self.proc.add(301, zombie=True)
        self.census.reapProcess()
        self.assertEqual(([300, 301], 0), (self.proc.waited, self.proc.looks))
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_sigchld_behind_a_job(self) -> None:
        """Where a job's own process keeps its number and is seen first, SIGCHLD brings a look, one for many."""
        self.proc.add(100, zombie=True)
        self.proc.add(300, zombie=True)
        for _ in range(5):
            self.census.reapProcess()
        self.assertEqual([], self.proc.waited)
        self.clock.advance(0.2)
        self.assertEqual(([300], 1), (self.proc.waited, self.proc.looks - 1))

    def test_read_once(self) -> None:
        """Who carries a job's sign is not asked again; whoever has its number later is, and so is one without any."""
        asked: list[int] = []

        def signs(process: Process) -> Iterator[str]:
            asked.append(process.pid)
            yield from self.proc.signs[process.pid]

        self.patch(carried, "_signs", signs)
        self.proc.add(300, sign="a")
        self.proc.add(301)
        for _ in range(3):
            self.assertEqual([300], self.left("a"))
        self.assertEqual([301, 300, 301, 301], asked)
        self.proc.processes[300] = Process(300, OWN, 300, 501, False)
        self.proc.signs[300] = ["b"]
        self.assertEqual(([], [300]), (self.left("a"), self.left("b")))

    def test_somebody_exits_at_every_look(self) -> None:
        """As long as each look misses somebody new, nobody is known to be gone; once one does not, all are."""
        self.census.enter(400, "c")
        self.proc.add(300, sign="a")
        missed = iter(range(1000, 2000))
        walk = self.proc.tree

        def tree(root: int, gone: set[int]) -> Iterable[Process]:
            gone.add(next(missed))
            return walk(root, gone)

        self.patch(descendants, "tree", tree)
        answer = self.census.of("c")
        for _ in range(5):
            self.clock.advance(1)
            self.assertNoResult(answer)
        self.patch(descendants, "tree", walk)
        self.clock.advance(1)
        self.assertEqual([], self.successResultOf(answer))

    def test_newest_first(self) -> None:
        """
        The link of a chain of forks is read first, and what it carries at once: that it is gone when all have been
        read makes nobody else's end uncertain.
        """
        self.census.enter(400, "c")
        self.proc.add(300, sign="a")
        self.proc.add(301, sign="b")
        walk = self.proc.tree

        def tree(root: int, gone: set[int]) -> Iterable[Process]:
            if root == 300:
                self.proc.add(301, zombie=True)
            return walk(root, gone)

        self.patch(descendants, "tree", tree)
        self.assertEqual([], self.left("c"))
        self.assertEqual(1, self.proc.looks)

    def test_read_again(self) -> None:
        """A sign of a job that is over says nothing; what else one carries is read then."""
        self.proc.add(300, sign="a")
        self.assertEqual([300], self.left("a"))
        self.census.leave(100)
        self.proc.signs[300] = ["a", "b"]
        self.assertEqual([300], self.left("b"))

    def test_cannot_look(self) -> None:
        """Who asks while nothing can be read hears of it, and nobody is taken for gone."""
        self.proc.problem = OSError(24, "Too many open files")
        self.failureResultOf(self.census.of("a"), OSError)

    def test_kill(self) -> None:
        """All are stopped before the first is killed; others' stay untouched."""
        self.proc.add(300, sign="a")
        self.proc.add(301, sign="b")
        self.proc.add(302, sign="a")
        killed = self.census.kill("a", [self.proc.processes[300]])
        self.assertEqual([(300, SIGSTOP), (302, SIGSTOP), (300, SIGKILL), (302, SIGKILL)], self.proc.signals)
        self.assertEqual([300, 302], [process.pid for process in killed])

    def test_kill_a_chain(self) -> None:
        """Whoever forks before it is stopped is followed from link to link until one is caught."""
        self.proc.add(300, sign="a")
        self.proc.forks_before_stop = [301, 302, 303]
        self.census.kill("a", [self.proc.processes[300]])
        self.assertEqual([], [pid for pid in self.proc.processes if pid >= 300 and not self.proc.processes[pid].zombie])
        self.assertIn((303, SIGSTOP), self.proc.signals)

    def test_kill_everybody_cannot_look(self) -> None:
        """When there is no descriptor to look with at the end it is tried again."""
        self.proc.add(300)
        self.proc.problem = OSError(24, "Too many open files")

        def pass_by(seconds: float) -> None:
            self.proc.problem = None

        self.patch(killing.time, "sleep", pass_by)  # type: ignore[attr-defined]
        self.census.kill_everybody()
        self.assertEqual({100, 200}, set(self.proc.processes))

    def test_kill_everybody(self) -> None:
        """At the end every orphan is killed, whosever it is; no job's own process."""
        self.proc.add(300)
        self.proc.add(301, parent=300, sign="nested")
        self.census.kill_everybody()
        self.assertEqual({100, 200}, set(self.proc.processes))
