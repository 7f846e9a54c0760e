"""When children are moved into their cgroups."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from txworker.shim.cgroup_moves import Moves


class MovesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.moved_self = 0
        self.moves = Moves(self.clock.seconds, self.move_self)

    def move_self(self) -> None:
        self.moved_self += 1
        self.clock.advance(0.011)

    def quick(self, *pauses: float) -> list[bool]:
        answers = []
        for pause in pauses:
            self.clock.advance(pause)
            answers.append(self.moves.quick())
        return answers

    def test_single(self) -> None:
        """A single child is not moved."""
        self.assertEqual([False, False, False], self.quick(1, 1, 0.02))
        self.assertEqual(0, self.moved_self)

    def test_burst(self) -> None:
        """From the second child of a burst on they are moved; the slow first move moves no child."""
        self.assertEqual([False, True, True, True], self.quick(1, 0.002, 0.009, 0.009))
        self.assertEqual(1, self.moved_self)

    def test_next_burst(self) -> None:
        """A burst ends with a pause."""
        self.assertEqual([False, True, False, True], self.quick(1, 0.002, 0.02, 0.002))
        self.assertEqual(2, self.moved_self)
