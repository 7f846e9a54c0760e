"""Lists of running and finished jobs."""

from __future__ import annotations

from collections.abc import Iterable

from twisted.trial.unittest import SynchronousTestCase

from tests.support.fakes import FakeOutput, worker_fixture
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


class OutputBytesTests(SynchronousTestCase):
    def test_of_a_finished_job(self) -> None:
        """What went to each file, whatever its size is now; only for an older version's record is that looked at."""
        fixture = worker_fixture()
        fixture.outputs.by_job["job"] = FakeOutput()
        fixture.outputs.by_job["job"].write(1, b"1234567")

        def found(job: Job) -> tuple[int | None, int | None]:
            return fixture.catalog.output_bytes(job, stderr=False), fixture.catalog.output_bytes(job, stderr=True)

        separate = JobSpec("true", separate_stderr=True)
        self.assertEqual((6, 4), found(Job("job", separate, 1.0, output_bytes=10, stderr_bytes=4)))
        self.assertEqual((3, 3), found(Job("job", separate, 1.0, output_bytes=10)))
        self.assertEqual((None, None), found(Job("gone", separate, 1.0, output_bytes=10)))
        self.assertEqual(10, found(Job("gone", JobSpec("true"), 1.0, output_bytes=10))[0])
