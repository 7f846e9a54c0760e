"""Why processes still run, as users and operators read it."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.support.process_table import FakeProcessTable
from txworker.leftovers.survivors import why_running


class WhyRunningTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.table = FakeProcessTable()
        for pid in range(10, 20):
            self.table.add(pid)

    def test_nothing(self) -> None:
        """Without a process there is no reason."""
        self.assertEqual("", why_running([], self.table))

    def test_killed(self) -> None:
        """A process that may be signalled was killed in vain; of many only some are named."""
        self.assertEqual("process 10 still runs, though it was killed", why_running([10], self.table))
        many = "processes 10, 11, 12, 13, 14 and 2 more still run, though they were killed"
        self.assertEqual(many, why_running(range(10, 17), self.table))

    def test_forbidden(self) -> None:
        """Those that may not be signalled are the reason, with the user that they run as while they are there."""
        self.table.forbidden = {11, 30}
        self.assertRegex(
            why_running([10, 11], self.table),
            r"^process 11 still runs as user root: this worker \(user .+\) may not signal it$",
        )
        self.assertRegex(
            why_running([30], self.table), r"^process 30 still runs: this worker \(user .+\) may not signal it$"
        )
