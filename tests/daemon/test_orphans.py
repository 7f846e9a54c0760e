"""Which exited children process 1 reaps; tests/live/test_process_1.py has a real one."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txworker.daemon.orphans import orphan_reaper, reap_orphans


class OrphanTests(SynchronousTestCase):
    def test_all(self) -> None:
        """Every exited orphan is reaped in one look."""
        zombies = [7, 8, 9]
        self.assertEqual(3, reap_orphans((), lambda: zombies[0] if zombies else None, zombies.remove))
        self.assertEqual([], zombies)

    def test_not_ours(self) -> None:
        """A child that the worker started is left to what started it, and so are those behind it, for this time."""
        zombies = [7, 8, 9]
        self.assertEqual(1, reap_orphans({8}, lambda: zombies[0] if zombies else None, zombies.remove))
        self.assertEqual([8, 9], zombies)

    def test_only_process_1(self) -> None:
        """Elsewhere another process has that task."""
        self.assertEqual((1, 0), (len(orphan_reaper(1)), len(orphan_reaper(2))))
