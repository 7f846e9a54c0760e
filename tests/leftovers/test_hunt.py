"""Killing those who fork: nobody is killed before all are stopped, and it has an end. On a made-up forest."""

from __future__ import annotations

import time
from collections.abc import Callable, Container
from signal import SIGKILL, SIGSTOP

from twisted.trial.unittest import SynchronousTestCase

from txworker.leftovers import hunt as room
from txworker.leftovers.hunt import HUNT_SECONDS, hunt
from txworker.linux.procfs import Process


class HuntTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.there: list[Process] = []
        self.mine: set[int] = set()
        self.signals: list[tuple[int, int]] = []
        self.skipped: list[set[int]] = []
        self.when_stopped: Callable[[int], object] = lambda pid: None
        self.now = 0.0
        self.patch(time, "monotonic", lambda: self.now)
        self.patch(room, "send", self.send)

    def send(self, process: Process, number: int) -> None:
        self.signals.append((process.pid, number))
        if number == SIGSTOP:
            self.when_stopped(process.pid)

    def add(self, pid: int, parent: int = 1, mine: bool = True) -> Process:
        self.there.append(Process(pid, parent, pid, 500, False))
        if mine:
            self.mine.add(pid)
        return self.there[-1]

    def forest(self, skipped: Container[int]) -> list[Process]:
        """Trees below skipped roots are not walked."""
        self.now += 0.001
        self.skipped.append({process.pid for process in self.there if process.pid in skipped})
        found: list[Process] = []
        for process in self.there:
            root = process
            while root.parent != 1:
                root = next(one for one in self.there if one.pid == root.parent)
            if root.pid not in skipped:
                found.append(process)
        return found

    def hunted(self, *found: Process) -> list[int]:
        ours = [process.pid for process in hunt(list(found), self.forest, lambda forest: self.chosen(forest))]
        numbers = [number for _, number in self.signals]
        self.assertEqual(sorted(numbers, key=[SIGSTOP, SIGKILL].index), numbers)
        self.assertEqual(ours, [pid for pid, number in self.signals if number == SIGKILL])
        return ours

    def chosen(self, forest: list[Process]) -> list[Process]:
        return [process for process in forest if process.pid in self.mine]

    def test_ours_alone(self) -> None:
        """Who was found and who is ours besides is stopped, then killed; nobody else gets any signal."""
        first = self.add(2)
        self.add(3)
        self.add(4, mine=False)
        self.assertEqual([2, 3], self.hunted(first))
        self.assertEqual({2, 3}, {pid for pid, _ in self.signals})

    def test_nobody(self) -> None:
        """Without anybody there is nothing to do but look."""
        self.assertEqual([], self.hunted())

    def test_born_meanwhile(self) -> None:
        """Who appears while others are stopped is stopped, too, however many times."""
        self.when_stopped = lambda pid: self.add(pid + 1) if pid < 9 else None
        self.assertEqual([2, 3, 4, 5, 6, 7, 8, 9], self.hunted(self.add(2)))

    def test_below(self) -> None:
        """Children of who is stopped are found at last, and are ours whatever they carry."""
        first = self.add(2)
        self.add(3, parent=2, mine=False)
        self.add(4, parent=3, mine=False)
        self.assertEqual([2, 3, 4], self.hunted(first))
        self.assertEqual({2}, self.skipped[0])

    def test_strangers_are_read_once(self) -> None:
        """Who is nobody's is not walked again as long as new ones come."""
        self.add(7, mine=False)
        self.when_stopped = lambda pid: self.add(pid + 1) if pid < 5 else None
        self.hunted(self.add(2))
        self.assertTrue(all(7 in skipped for skipped in self.skipped[1:]))

    def test_has_an_end(self) -> None:
        """One that always has another is let go after a while; all that were stopped are killed by then."""
        self.when_stopped = lambda pid: self.add(pid + 1)
        ended = self.hunted(self.add(2))
        self.assertGreater(len(ended), 100)
        self.assertLess(self.now, HUNT_SECONDS + 0.01)
