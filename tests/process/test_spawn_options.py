"""What jobs are started with, where that depends on the worker's own."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txworker.process.spawn_options import oom_score_adj_of_jobs


class OomScoreTests(SynchronousTestCase):
    def test_never_less_than_the_workers(self) -> None:
        """What is configured, or the worker's own if that is more; below 0, and 0 (nothing is set), as configured."""
        for configured, own, expected in (
            (500, 0, 500),
            (500, 500, 500),
            (500, 1000, 1000),
            (500, -900, 500),
            (0, 300, 0),
            (-500, 300, -500),
        ):
            self.assertEqual(expected, oom_score_adj_of_jobs(configured, own), (configured, own))
