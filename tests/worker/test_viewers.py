"""Viewing a job's output and removing it exclude each other."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txworker.jobs.errors import JobRemoved
from txworker.worker.viewers import Viewers


class ViewersTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.viewers = Viewers()

    def test_looked_at(self) -> None:
        """A job with viewers cannot be claimed until the last has left; others can."""
        first, second = self.viewers.looking("a"), self.viewers.looking("a")
        with first:
            with second:
                self.assertEqual({"b"}, self.viewers.claim(["a", "b"]))
            self.assertEqual(set(), self.viewers.claim(["a"]))
        self.assertEqual({"a"}, self.viewers.claim(["a"]))

    def test_claimed(self) -> None:
        """A claimed job cannot be viewed; after release() it can."""
        self.viewers.claim(["a"])
        with self.assertRaises(JobRemoved), self.viewers.looking("a"):
            self.fail("it is being removed")
        with self.viewers.looking("b"):
            self.viewers.release(["a"])
        with self.viewers.looking("a"):
            self.assertEqual(set(), self.viewers.claim(["a"]))

    def test_leaving_by_an_error(self) -> None:
        """An exception while viewing ends the view."""
        with self.assertRaises(ZeroDivisionError), self.viewers.looking("a"):
            raise ZeroDivisionError
        self.assertEqual({"a"}, self.viewers.claim(["a"]))
