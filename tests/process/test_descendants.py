"""Who descends from the worker: read in order, waited for, and never who was there before. On a made-up /proc."""

from __future__ import annotations

import os
from collections.abc import Iterator

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from txworker.process import descendants as room
from txworker.process import strangers
from txworker.process.descendants import Descendants, Start
from txworker.process.procfs import Process
from txworker.process.strangers import APART_SECONDS, Strangers

OWN = os.getpid()
MAIN = 100


class DescendantsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.processes: dict[int, Process] = {}
        self.waited: list[int] = []
        self.walked: list[int] = []
        self.patch(room, "ThreadChildren", lambda thread_id: lambda: self.children(OWN))
        self.patch(room, "children", self.children)
        self.patch(room, "read_process", self.processes.get)
        self.patch(room, "tree", self.tree)
        self.patch(room, "_exited_child", lambda: next((pid for pid in self.exited()), None))
        self.patch(os, "waitpid", self.waitpid)
        self.patch(strangers, "_has_exited", lambda pid: self.processes[pid].zombie)
        self.clock = Clock()
        self.strangers = Strangers(self.clock)

    def add(self, pid: int, parent: int = OWN, zombie: bool = False, start: int = 500) -> Process:
        self.processes[pid] = Process(pid, parent, pid, start, zombie)
        return self.processes[pid]

    def children(self, pid: int) -> list[int]:
        return [process.pid for process in self.processes.values() if process.parent == pid]

    def exited(self) -> list[int]:
        return [pid for pid in self.children(OWN) if self.processes[pid].zombie]

    def tree(self, root: int, gone: set[int]) -> Iterator[Process]:
        self.walked.append(root)
        queue = [root]
        for pid in queue:
            if pid in self.processes:
                yield self.processes[pid]
                queue += self.children(pid)
            else:
                gone.add(pid)

    def waitpid(self, pid: int, options: int) -> tuple[int, int]:
        self.waited.append(pid)
        for child in self.children(pid):
            self.add(child)
        del self.processes[pid]
        return pid, 0

    def made(self) -> Descendants:
        return Descendants({MAIN}, self.strangers)

    def pids(self, descendants: Descendants, *skipped: int) -> list[int]:
        found, complete = descendants.forest(skipped)
        self.assertTrue(complete)
        return [process.pid for process in found]

    def test_forest(self) -> None:
        """Parents come before their children, the newest tree is read first; no job's own process, no skipped one."""
        descendants = self.made()
        self.add(MAIN)
        self.add(MAIN + 1, parent=MAIN)
        self.add(7)
        self.add(8)
        self.add(9, parent=7)
        self.assertEqual([7, 9, 8], self.pids(descendants))
        self.assertEqual([8, 7], self.walked)
        self.assertEqual([8], self.pids(descendants, 7))

    def test_told_at_once(self) -> None:
        """Whoever lives is told of as soon as it is read, before the next one is; who has exited is not."""
        descendants = self.made()
        self.add(7)
        self.add(8)
        self.add(9, parent=8, zombie=True)
        seen: list[tuple[int, list[int]]] = []
        descendants.forest(seen=lambda process: seen.append((process.pid, self.walked.copy())))
        self.assertEqual([(8, [8]), (7, [8, 7])], seen[:2])
        self.assertNotIn(9, [pid for pid, _ in seen])

    def test_handed_over(self) -> None:
        """Who exits in the midst hands its children over to us: they are found in the same look."""
        descendants = self.made()
        self.add(7)
        self.add(8, parent=7)
        walk = self.tree

        def tree(root: int, gone: set[int]) -> Iterator[Process]:
            if root == 7:
                self.patch(room, "tree", walk)
                self.waitpid(7, 0)
            return walk(root, gone)

        self.patch(room, "tree", tree)
        self.assertEqual([8], self.pids(descendants))

    def test_never_complete(self) -> None:
        """A look that misses somebody each time says so, after a few."""
        descendants = self.made()
        self.add(7)
        missed = iter(range(1000, 2000))

        def tree(root: int, gone: set[int]) -> Iterator[Process]:
            gone.add(next(missed))
            yield self.processes[root]

        self.patch(room, "tree", tree)
        self.assertFalse(descendants.forest()[1])
        self.assertLess(next(missed), 1010)

    def test_reap(self) -> None:
        """All orphans that have exited are waited for, those that they hand over as well."""
        descendants = self.made()
        self.add(7, zombie=True)
        self.add(8, zombie=True)
        self.add(9)
        self.assertTrue(descendants.reap())
        self.assertEqual(([7, 8], [9]), (self.waited, self.children(OWN)))

    def test_reap_leaves_others_alone(self) -> None:
        """A job's own process, and who is spared, is waited for by others; what is behind it is left for a look."""
        for pid in (MAIN, 6):
            descendants = self.made()
            descendants.spare(6)
            self.add(pid, zombie=True)
            self.add(7, zombie=True)
            self.assertFalse(descendants.reap())
            self.assertEqual([], self.waited)
            self.processes.clear()

    def test_reap_has_an_end(self) -> None:
        """A chain that exits faster than it is waited for does not hold the reactor up."""
        descendants = self.made()
        self.add(7, zombie=True)
        self.patch(os, "waitpid", lambda pid, options: self.waited.append(pid))
        self.assertFalse(descendants.reap())
        self.assertLess(len(self.waited), 2000)

    def test_from_before(self) -> None:
        """Who was there before is passed over with all below, until it has exited; another with its number is not."""
        self.add(50)
        descendants = self.made()
        self.assertFalse(descendants.alone)
        self.add(51, parent=50)
        self.assertEqual([], self.pids(descendants))
        self.add(50, start=501)
        self.assertEqual([50, 51], self.pids(descendants))
        self.add(50, zombie=True)
        self.assertEqual([51], self.pids(descendants))
        self.assertEqual([50], self.waited)

    def test_slipped(self) -> None:
        """Who was nobody's, lived when it was read and does not any more may have left somebody; a stranger has not."""
        descendants = self.made()
        stays, goes, is_another, known = (self.add(pid) for pid in (7, 8, 9, 10))
        dead = self.add(11, zombie=True)
        del self.processes[8]
        self.add(9, start=501)
        self.strangers.saw(known)
        self.clock.advance(APART_SECONDS)
        self.strangers.saw(known)
        for nobodys, slipped in ([stays, dead, known], False), ([stays, goes], True), ([is_another], True):
            self.assertEqual(slipped, descendants.slipped(nobodys))

    def test_start(self) -> None:
        """When a process started is read when it is first asked, and stays what it was."""
        start = Start(7)
        self.add(7)
        self.assertEqual(500, start())
        self.add(7, start=501)
        self.assertEqual((500, -1), (start(), Start(8)()))
