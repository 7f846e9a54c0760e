"""What descends from the shim, read in order. On a made-up /proc."""

from __future__ import annotations

import os
from collections.abc import Iterator

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from txworker.leftovers import descendants as room
from txworker.leftovers import siblings, strangers
from txworker.leftovers.descendants import Descendants, Start
from txworker.leftovers.siblings import Siblings
from txworker.leftovers.strangers import APART_SECONDS, Strangers
from txworker.linux.procfs import Process

OWN, SPAWNING = os.getpid(), 77
MAIN = 100


class DescendantsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.processes: dict[int, Process] = {}
        self.walked: list[int] = []
        self.patch(room, "ThreadChildren", lambda pid, thread_id: lambda: self.children(OWN))
        self.patch(siblings, "ThreadChildren", lambda pid, thread_id: list)
        self.patch(room, "read_process", self.processes.get)
        self.patch(room, "tree", self.tree)
        self.patch(strangers, "_has_exited", lambda pid: self.processes[pid].zombie)
        self.patch(os, "pidfd_open", lambda pid: pid)
        self.patch(os, "close", lambda pidfd: None)
        self.clock = Clock()
        self.strangers = Strangers(self.clock)

    def add(self, pid: int, parent: int = OWN, zombie: bool = False, start: int = 500) -> Process:
        self.processes[pid] = Process(pid, parent, pid, start, zombie)
        return self.processes[pid]

    def children(self, pid: int) -> list[int]:
        return [process.pid for process in self.processes.values() if process.parent == pid]

    def tree(self, root: int, gone: set[int]) -> Iterator[Process]:
        self.walked.append(root)
        queue = [root]
        for pid in queue:
            if pid in self.processes:
                yield self.processes[pid]
                queue += self.children(pid)
            else:
                gone.add(pid)

    def exits(self, pid: int) -> None:
        for child in self.children(pid):
            self.add(child)
        del self.processes[pid]

    def made(self) -> Descendants:
        found = Siblings(OWN, SPAWNING, {}, set(), lambda process: None)
        return Descendants(OWN, {MAIN}, self.strangers, found)

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
                self.exits(7)
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
