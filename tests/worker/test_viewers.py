"""Looking at a job's output and removing it keep out of each other's way."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txworker.jobs.errors import JobRemoved
from txworker.worker.viewers import Viewers


class ViewersTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.viewers = Viewers()

    def test_looked_at(self) -> None:
        """What anybody looks at cannot be claimed, until the last one has left; the rest can."""
        first, second = self.viewers.looking("a"), self.viewers.looking("a")
        with first:
            with second:
                self.assertEqual({"b"}, self.viewers.claim(["a", "b"]))
            self.assertEqual(set(), self.viewers.claim(["a"]))
        self.assertEqual({"a"}, self.viewers.claim(["a"]))

    def test_claimed(self) -> None:
        """Nobody looks at what is being removed; once that is over, or given up, anybody may."""
        self.viewers.claim(["a"])
        with self.assertRaises(JobRemoved), self.viewers.looking("a"):
            self.fail("it is being removed")
        with self.viewers.looking("b"):
            self.viewers.release(["a"])
        with self.viewers.looking("a"):
            self.assertEqual(set(), self.viewers.claim(["a"]))

    def test_leaving_by_an_error(self) -> None:
        """A stream that breaks off leaves as any other does."""
        with self.assertRaises(ZeroDivisionError), self.viewers.looking("a"):
            raise ZeroDivisionError
        self.assertEqual({"a"}, self.viewers.claim(["a"]))
