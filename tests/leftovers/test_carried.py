"""What processes were seen to carry: asked for once, and believed only as long as it means a job."""

from __future__ import annotations

import os
from collections.abc import Iterator

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from txworker.leftovers import carried as room
from txworker.leftovers.carried import Carried
from txworker.leftovers.owners import Main
from txworker.leftovers.strangers import APART_SECONDS, Strangers
from txworker.linux.procfs import Process

OWN = os.getpid()


def a_process(pid: int, parent: int = OWN, start: int = 500) -> Process:
    return Process(pid, parent, pid, start, False)


class CarriedTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.mains: dict[int, Main] = {}
        self.strangers = Strangers(self.clock)
        self.carried = Carried(self.mains, self.strangers, OWN)
        self.signs: dict[int, list[str | int]] = {}
        self.asked: list[int] = []
        self.patch(os, "pidfd_open", lambda pid: pid)
        self.patch(os, "close", lambda pidfd: None)
        self.patch(room, "_signs", self.read)
        self.main = Main("a", 5, lambda: 0)
        self.carried.add(self.main)

    def read(self, process: Process) -> Iterator[str | int]:
        self.asked.append(process.pid)
        yield from self.signs.get(process.pid, [])

    def test_first_that_is_a_jobs(self) -> None:
        """Of what one carries the first counts that is a job's: its id or its tag."""
        for signs, found in (["x", 5, "a"], (5,)), (["a"], ("a",)), (["x", 6], ()), ([], ()):
            process = a_process(len(self.asked) + 2)
            self.signs[process.pid] = signs  # type: ignore[assignment]
            self.carried.see(process)
            self.assertEqual(found, self.carried.of(process))

    def test_asked_once(self) -> None:
        """Who carries a sign is not asked again; another one with its number is."""
        self.signs[7] = ["a"]
        for _ in range(3):
            self.carried.see(a_process(7))
        self.assertEqual([7], self.asked)
        self.assertEqual((), self.carried.of(a_process(7, start=501)))
        self.carried.see(a_process(7, start=501))
        self.assertEqual([7, 7], self.asked)

    def test_session_says_more(self) -> None:
        """Who is in a job's session is not asked at all."""
        self.mains[7] = self.main
        self.carried.see(a_process(7))
        self.assertEqual([], self.asked)

    def test_job_over(self) -> None:
        """The sign of a job that is over says nothing, and what else there is is read then."""
        self.signs[7] = ["a"]
        self.carried.see(a_process(7))
        self.carried.remove(self.main)
        self.assertEqual((), self.carried.of(a_process(7)))
        self.carried.add(Main("b", 6, lambda: 0))
        self.signs[7] = ["a", "b"]
        self.carried.see(a_process(7))
        self.assertEqual(("b",), self.carried.of(a_process(7)))

    def test_strangers(self) -> None:
        """A child of ours that carries nothing is a stranger at the second time, and not asked again; none below is."""
        for _ in range(3):
            for process in (a_process(7), a_process(8, parent=7)):
                self.carried.see(process)
            self.clock.advance(APART_SECONDS)
        self.assertEqual((True, False), (7 in self.strangers, 8 in self.strangers))
        self.assertEqual((2, 3), (self.asked.count(7), self.asked.count(8)))

    def test_kept(self) -> None:
        """Of those that are gone nothing is remembered."""
        for pid in (7, 8):
            self.signs[pid] = ["a"]
            self.carried.see(a_process(pid))
        self.carried.keep([a_process(7)])
        self.assertEqual((("a",), ()), (self.carried.of(a_process(7)), self.carried.of(a_process(8))))
