"""When the census looks, what it finds, and how it kills, on a made-up /proc."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from signal import SIGKILL, SIGSTOP

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from txworker.leftovers import carried, descendants, hunt, killing, siblings, strangers
from txworker.leftovers.census import Census
from txworker.linux.procfs import Process

OWN, SPAWNING = os.getpid(), 77


class FakeProc:
    """Processes by pid, each with what it says of itself; `on_signal` may change the world."""

    def __init__(self) -> None:
        self.processes: dict[int, Process] = {}
        self.signs: dict[int, list[str]] = {}
        self.looks = 0
        self.signals: list[tuple[int, int]] = []
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


class CensusTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.proc, self.clock = FakeProc(), Clock()
        self.patch(descendants, "ThreadChildren", lambda pid, thread_id: self.proc.own_children)
        self.patch(siblings, "ThreadChildren", lambda pid, thread_id: list)
        self.patch(descendants, "read_process", self.proc.processes.get)
        self.patch(descendants, "tree", lambda root, gone: self.proc.tree(root, gone))
        self.patch(hunt, "send", self.proc.send)
        self.patch(carried, "_signs", lambda process: self.proc.signs[process.pid])
        self.patch(os, "pidfd_open", lambda pid: pid)
        self.patch(os, "close", lambda pidfd: None)
        self.census = self.a_census()

    def a_census(self) -> Census:
        census = Census(self.clock, OWN, SPAWNING)
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
        """Orphans that have exited are the shim's to reap, and nothing of them is left."""
        self.proc.add(300, zombie=True, sign="a")
        self.proc.add(301, sign="a")
        self.assertEqual([301], self.left("a"))

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
        """An orphan that carries nothing is read twice; what comes of it is read like any."""
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
        self.proc.add(301, sign="a")
        self.proc.add(300, zombie=True)
        self.assertEqual([301], self.left("a"))

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

    def test_share(self) -> None:
        """A look that took long is not repeated at once: all who ask meanwhile are served by the next."""
        self.patch(self.census, "_clock", self.clock)
        slow = self.proc.own_children

        def slowly() -> list[int]:
            self.clock.rightNow += 0.01
            return slow()

        self.patch(self.proc, "own_children", slowly)
        self.patch(self.census.descendants, "_children", slowly)
        self.assertEqual([], self.left("a"))
        waiting = [self.census.of("a"), self.census.of("b")]
        self.clock.advance(0.09)
        for one in waiting:
            self.assertNoResult(one)
        self.clock.advance(0.02)
        for one in waiting:
            self.assertEqual([], self.successResultOf(one))
        self.assertEqual(2, self.proc.looks)

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

        self.patch(self.proc, "tree", tree)
        answer = self.census.of("c")
        for _ in range(5):
            self.clock.advance(1)
            self.assertNoResult(answer)
        self.patch(self.proc, "tree", walk)
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

        self.patch(self.proc, "tree", tree)
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

    def test_kept(self) -> None:
        """What a job left that is kept is no other job's, though that ran when it was born; and it lives to the end."""
        self.census.exited(100)
        self.census.keep(100, "a")
        self.proc.processes.pop(100)
        self.proc.add(300, sign="a")
        self.proc.add(301, parent=300)
        self.proc.add(302, session=100)
        self.proc.add(303, sign="b")
        self.census.exited(200)
        self.assertEqual([303], self.left("b"))
        self.census.kill_everybody(lambda job_id: job_id == "a")
        self.assertEqual({200, 300, 301, 302}, set(self.proc.processes))

    def test_kept_by_an_earlier_worker(self) -> None:
        """What is kept of a job that this worker has not seen is told by its signs alone."""
        self.proc.add(300, sign="before")
        self.proc.add(301, sign="other")
        self.census.kill_everybody(lambda job_id: job_id == "before")
        self.assertEqual({100, 200, 300}, set(self.proc.processes))

    def test_nothing_is_kept_any_more(self) -> None:
        """When nothing is left of a job whose leftovers are kept, it is forgotten. Its number may be another's."""
        self.census.exited(100)
        self.census.keep(100, "a")
        self.proc.add(300, sign="a")
        self.census.enter(100, "c")
        self.proc.add(301, session=100)
        self.clock.advance(1)
        self.assertEqual([301], self.left("c"))
        self.proc.processes.pop(300)
        self.clock.advance(1)
        self.assertEqual([301], self.left("c"))
        self.assertEqual({}, self.census._kept)
