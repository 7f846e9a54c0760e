"""Reaping children."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txworker.linux import wait


class ReapSomeTests(SynchronousTestCase):
    def test_limited(self) -> None:
        """At most this many are reaped at a time, and others may be left then."""
        exited = list(range(2, 7))
        self.patch(wait, "exited_child", lambda options: exited[0] if exited else None)
        self.patch(wait, "reap", exited.remove)
        self.assertEqual((True, [4, 5, 6]), (wait.reap_some_of_thread(2), exited))
        self.assertEqual((False, []), (wait.reap_some_of_thread(4), exited))
