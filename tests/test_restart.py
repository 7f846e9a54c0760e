"""What the worker does with the jobs that an earlier one left unfinished."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.support.fakes import a_house
from tests.support.memory_store import MemoryStore
from txworker.jobs import JobSpec, JobState, Query
from txworker.jobs.errors import (
    StoreFull,
)
from txworker.jobs.query import LAST

TRUE = JobSpec("true", "a/path", timeout_seconds=60)


class RecoverTests(SynchronousTestCase):
    def test_lost(self) -> None:
        """What an earlier worker left unfinished is lost, for the reason that is known; what was done stays."""
        store = MemoryStore()
        before = a_house(store=store)
        done, running, stopping = (self.successResultOf(before.worker.submit(TRUE)) for _ in range(3))
        before.launcher.running[done.id].exit()
        self.successResultOf(before.worker.stop(stopping.id))
        after = a_house(store=store)
        self.assertEqual(2, after.worker.recover("lost: testing"))
        self.assertEqual(JobState.SUCCEEDED, after.catalog.get(done.id).state)
        for job_id in (running.id, stopping.id):
            job = after.catalog.get(job_id)
            self.assertEqual((JobState.LOST, "lost: testing", True), (job.state, job.error_text, job.failed))
        self.assertEqual(0, a_house(store=store).worker.recover("lost: again"))

    def test_goes_on_counting(self) -> None:
        """Numbers and revisions go on where the earlier worker was: newest first stays newest first."""
        store = MemoryStore()
        before = a_house(store=store)
        old = self.successResultOf(before.worker.submit(TRUE))
        after = a_house(store=store)
        after.worker.recover("lost: testing")
        lost = after.catalog.get(old.id)
        new = self.successResultOf(after.worker.submit(TRUE))
        self.assertGreater(lost.revision, old.revision)
        self.assertGreater(new.revision, lost.revision)
        self.assertEqual([new.id, old.id], [job.id for job in after.catalog.page(Query(), LAST, 10)])

    def test_watched(self) -> None:
        """Who watches the new worker is given the lost jobs from the store, and then what changes."""
        store = MemoryStore()
        old = self.successResultOf(a_house(store=store).worker.submit(TRUE))
        after = a_house(store=store)
        after.worker.recover("lost: testing")
        changed = self.successResultOf(after.catalog.changes.since(0))
        self.assertEqual((), changed.jobs)
        self.assertEqual([old.id], [job.id for job in after.catalog.ended_between(0, changed.in_store_upto, 10, {})])
        waiting = after.catalog.changes.since(changed.upto)
        self.assertNoResult(waiting)
        new = self.successResultOf(after.worker.submit(TRUE))
        self.assertEqual([new.id], [job.id for job in self.successResultOf(waiting).jobs])

    def test_long_order(self) -> None:
        """Of a job that is lost the whole order is there as before."""
        store = MemoryStore()
        spec = JobSpec("true", args=("x" * 10_000, "last"))
        job = self.successResultOf(a_house(store=store).worker.submit(spec))
        after = a_house(store=store)
        after.worker.recover("lost: testing")
        lost = after.catalog.get(job.id)
        self.assertEqual((JobState.LOST, spec.brief()), (lost.state, lost.spec))
        self.assertEqual(spec, after.catalog.in_full(lost).spec)

    def test_cannot_be_written(self) -> None:
        """Nothing goes on before it is written: whoever starts the worker is told."""
        store = MemoryStore()
        self.successResultOf(a_house(store=store).worker.submit(TRUE))
        store.broken = StoreFull("the disk is full")
        self.assertRaises(StoreFull, a_house(store=store).worker.recover, "lost: testing")
