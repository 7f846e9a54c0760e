"""Lists of running and finished jobs."""

from __future__ import annotations

from collections.abc import Iterable

from twisted.trial.unittest import SynchronousTestCase

from tests.support.fakes import worker_fixture
from txworker.jobs import Job, JobSpec, JobState, Query
from txworker.jobs.query import BEYOND_NEWEST

TRUE = JobSpec("true", "a/path", timeout_seconds=60)


def ids(jobs: Iterable[Job]) -> list[str]:
    return [job.id for job in jobs]


class PageTests(SynchronousTestCase):
    def test_running_and_finished(self) -> None:
        """A page has running and finished jobs, newest first, with current records, at most as many as requested."""
        fixture = worker_fixture()
        jobs = [self.successResultOf(fixture.worker.submit(TRUE)) for _ in range(6)]
        for job in jobs[::2]:
            fixture.launcher.running[job.id].exit()
        newest = [job.id for job in reversed(jobs)]
        self.assertEqual(newest, ids(fixture.catalog.page(Query(), BEYOND_NEWEST, 10)))
        self.assertEqual(newest[:4], ids(fixture.catalog.page(Query(), BEYOND_NEWEST, 4)))
        self.assertEqual(newest[2:5], ids(fixture.catalog.page(Query(), jobs[4].number, 3)))
        done = fixture.catalog.page(Query(frozenset([JobState.SUCCEEDED])), BEYOND_NEWEST, 10)
        self.assertEqual(([job.id for job in jobs[4::-2]], True), (ids(done), all(job.done for job in done)))
        running = fixture.catalog.page(Query(frozenset([JobState.RUNNING])), BEYOND_NEWEST, 10)
        self.assertEqual([job.id for job in jobs[5::-2]], ids(running))

    def test_labels(self) -> None:
        """Labels hold for running and finished jobs alike."""
        fixture = worker_fixture()
        mine, other = (JobSpec("true", labels={"team": team}) for team in ("mine", "other"))
        jobs = [self.successResultOf(fixture.worker.submit(spec)) for spec in (mine, other, mine)]
        fixture.launcher.running[jobs[0].id].exit()
        found = fixture.catalog.page(Query(labels={"team": "mine"}), BEYOND_NEWEST, 10)
        self.assertEqual([jobs[2].id, jobs[0].id], ids(found))
