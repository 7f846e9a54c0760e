"""What descends from the shim, read in order. In a made-up process table."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.support.process_table import FakeProcessTable
from txworker.leftovers.clone_parent import CloneParentChildren
from txworker.leftovers.descendants import Descendants, StartTime
from txworker.leftovers.tag_cache import UNTAGGED_AFTER_SECONDS, Untagged
from txworker.linux.procfs import Process

SHIM, SPAWN_THREAD, LEADER = 50, 77, 100


class DescendantsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock, self.table = Clock(), FakeProcessTable(reaper=SHIM)
        self.untagged = Untagged(self.clock, self.table)
        clone_parent = CloneParentChildren(SHIM, SPAWN_THREAD, {}, set(), lambda process: None, self.table)
        self.descendants = Descendants(SHIM, {LEADER}, self.untagged, clone_parent, self.table)

    def pids(self, *skipped: int) -> list[int]:
        found, complete = self.descendants.scan(skipped)
        self.assertTrue(complete)
        return [process.pid for process in found]

    def test_scan(self) -> None:
        """Parents come before children, the newest root is read first; no job leader and no skipped root is in it."""
        self.table.add(LEADER)
        self.table.add(LEADER + 1, parent=LEADER)
        self.table.add(7)
        self.table.add(8)
        self.table.add(9, parent=7)
        self.assertEqual([7, 9, 8], self.pids())
        self.assertEqual([8, 7, 9], self.table.reads)
        self.assertEqual([8], self.pids(7))

    def test_seen_at_once(self) -> None:
        """seen() is called as soon as a process is read, before the next one is; not for zombies."""
        for pid in (7, 8):
            self.table.add(pid)
        self.table.add(9, parent=8, zombie=True)
        seen: list[tuple[int, list[int]]] = []
        self.descendants.scan(seen=lambda process: seen.append((process.pid, self.table.reads.copy())))
        self.assertEqual((8, [8]), seen[0])
        self.assertEqual({7, 8}, {pid for pid, _ in seen})

    def test_handed_over(self) -> None:
        """A process that exits during the scan hands its children over to the shim: the same scan finds them."""
        self.table.add(7)
        self.table.add(8, parent=7)
        self.table.when_read[7] = lambda: self.table.exits(7)
        self.assertEqual([8], self.pids())

    def test_never_complete(self) -> None:
        """When every pass misses a process the scan says so, after a few."""
        self.table.add(7)
        self.table.ghosts = missed = iter(range(1000, 2000))
        self.assertFalse(self.descendants.scan()[1])
        self.assertLess(next(missed), 1010)

    def test_any_exited(self) -> None:
        """A process that has exited since it was read may have left children; one known to be untagged has not."""
        runs, exits, replaced, known = (self.table.add(pid) for pid in (7, 8, 9, 10))
        zombie = self.table.add(11, zombie=True)
        self.table.exits(8)
        self.table.add(9, start=501)
        self.untagged.saw(known)
        self.clock.advance(UNTAGGED_AFTER_SECONDS)
        self.untagged.saw(known)
        cases: list[tuple[list[Process], bool]] = [
            ([runs, zombie, known], False),
            ([runs, exits], True),
            ([replaced], True),
        ]
        for unattributed, expected in cases:
            self.assertEqual(expected, self.descendants.any_exited(unattributed))

    def test_start_time(self) -> None:
        """When a process started is read when it is first asked for, and stays what it was."""
        start = StartTime(7, self.table)
        self.table.add(7)
        self.assertEqual(500, start())
        self.table.add(7, start=501)
        self.assertEqual((500, -1), (start(), StartTime(8, self.table)()))
