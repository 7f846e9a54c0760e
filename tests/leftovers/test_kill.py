"""Killing processes that fork: none is killed before all are stopped, and it has an end. On made-up trees."""

from __future__ import annotations

from collections.abc import Callable, Container
from signal import SIGKILL, SIGSTOP

from twisted.trial.unittest import SynchronousTestCase

from tests.support.process_table import FakeProcessTable
from txworker.leftovers.kill import KILL_SECONDS, Killer
from txworker.linux.procfs import Process


class KillTests(SynchronousTestCase):
    """Processes whose pid is in self.chosen are to be killed. A scan takes a millisecond."""

    def setUp(self) -> None:
        self.table = FakeProcessTable()
        self.table.on_signal = self.on_signal
        self.chosen: set[int] = set()
        self.skipped: list[set[int]] = []
        self.when_stopped: Callable[[int], object] = lambda pid: None
        self.now = 0.0
        self.killer = Killer(self.table, lambda: self.now, self.sleep)

    def on_signal(self, process: Process, number: int) -> bool:
        if number == SIGSTOP:
            self.when_stopped(process.pid)
        return False

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def add(self, pid: int, parent: int = 1, chosen: bool = True) -> Process:
        self.chosen |= {pid} if chosen else set()
        return self.table.add(pid, parent)

    def scan(self, skipped: Container[int]) -> list[Process]:
        """Without the trees below skipped roots."""
        self.now += 0.001
        self.skipped.append({pid for pid in self.table.processes if pid in skipped})
        roots = [pid for pid in self.table.children(1) if pid not in skipped]
        return [process for root in roots for process in self.table.tree(root, set())]

    def killed(self, *found: Process) -> list[int]:
        choice = lambda processes: [process for process in processes if process.pid in self.chosen]  # noqa: E731
        killed = [process.pid for process in self.killer.kill(list(found), self.scan, choice)]
        numbers = [number for _, number in self.table.signals]
        self.assertEqual(sorted(numbers, key=[SIGSTOP, SIGKILL].index), numbers)
        self.assertEqual(killed, [pid for pid, number in self.table.signals if number == SIGKILL])
        return killed

    def test_chosen_ones_alone(self) -> None:
        """What was found and what is chosen besides is stopped, then killed; others get no signal."""
        first = self.add(2)
        self.add(3)
        self.add(4, chosen=False)
        self.assertEqual([2, 3], self.killed(first))
        self.assertEqual({2, 3}, {pid for pid, _ in self.table.signals})

    def test_nothing(self) -> None:
        """Where there is nothing, nothing is killed."""
        self.assertEqual([], self.killed())

    def test_born_meanwhile(self) -> None:
        """What appears while others are stopped is stopped, too, however many times."""
        self.when_stopped = lambda pid: self.add(pid + 1) if pid < 9 else None
        self.assertEqual([2, 3, 4, 5, 6, 7, 8, 9], self.killed(self.add(2)))

    def test_below(self) -> None:
        """Descendants of stopped processes are looked for last, and are killed whatever they are."""
        first = self.add(2)
        self.add(3, parent=2, chosen=False)
        self.add(4, parent=3, chosen=False)
        self.assertEqual([2, 3, 4], self.killed(first))
        self.assertEqual({2}, self.skipped[0])

    def test_others_are_read_once(self) -> None:
        """What is not chosen is not read again while new ones come."""
        self.add(7, chosen=False)
        self.when_stopped = lambda pid: self.add(pid + 1) if pid < 5 else None
        self.killed(self.add(2))
        self.assertTrue(all(7 in skipped for skipped in self.skipped[1:]))

    def test_has_an_end(self) -> None:
        """A job that always has one more process is left alone after a while; all that were stopped are killed."""
        self.when_stopped = lambda pid: self.add(pid + 1)
        self.assertGreater(len(self.killed(self.add(2))), 100)
        self.assertLess(self.now, KILL_SECONDS + 0.01)

    def test_until_none_is_left(self) -> None:
        """Killing is repeated until there was nothing to kill, or for two seconds."""
        answers = [True, True, False, True]
        self.killer.until_none_is_left(lambda: answers.pop(0))
        self.assertEqual([True], answers)
        self.killer.until_none_is_left(lambda: True)
        self.assertEqual(2.0, round(self.now, 1))
