"""What the worker does with the jobs that an earlier one left unfinished."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.support.fakes import UNWATCHABLE, WorkerFixture, worker_fixture
from tests.support.memory_store import MemoryStore
from txworker.jobs import EndReason, Job, JobSpec, JobState, Query
from txworker.jobs.errors import (
    StoreFull,
    WorkerStopping,
)
from txworker.jobs.held_process import HeldProcess
from txworker.jobs.query import BEYOND_NEWEST

TRUE = JobSpec("true", "a/path", timeout_seconds=60)


class LostTests(SynchronousTestCase):
    def test_lost(self) -> None:
        """What an earlier worker left unfinished is lost, for the reason that is known; what was done stays."""
        store = MemoryStore()
        before = worker_fixture(store=store)
        done, running, stopping = (self.successResultOf(before.worker.submit(TRUE)) for _ in range(3))
        before.launcher.running[done.id].exit()
        self.successResultOf(before.worker.stop(stopping.id))
        after = worker_fixture(store=store)
        self.assertEqual((0, 2), after.take_over())
        self.assertEqual(JobState.SUCCEEDED, after.catalog.get(done.id).state)
        for job_id in (running.id, stopping.id):
            job = after.catalog.get(job_id)
            self.assertEqual((JobState.LOST, "lost: testing", True), (job.state, job.error_text, job.failed))
        self.assertEqual((0, 0), worker_fixture(store=store).take_over(text="lost: again"))

    def test_goes_on_counting(self) -> None:
        """Numbers and revisions go on where the earlier worker was: newest first stays newest first."""
        store = MemoryStore()
        before = worker_fixture(store=store)
        old = self.successResultOf(before.worker.submit(TRUE))
        after = worker_fixture(store=store)
        after.take_over()
        lost = after.catalog.get(old.id)
        new = self.successResultOf(after.worker.submit(TRUE))
        self.assertGreater(lost.revision, old.revision)
        self.assertGreater(new.revision, lost.revision)
        self.assertEqual([new.id, old.id], [job.id for job in after.catalog.page(Query(), BEYOND_NEWEST, 10)])

    def test_watched(self) -> None:
        """A watcher of the new worker is given the lost jobs from the store, and then what changes."""
        store = MemoryStore()
        old = self.successResultOf(worker_fixture(store=store).worker.submit(TRUE))
        after = worker_fixture(store=store)
        after.take_over()
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
        job = self.successResultOf(worker_fixture(store=store).worker.submit(spec))
        after = worker_fixture(store=store)
        after.take_over()
        lost = after.catalog.get(job.id)
        self.assertEqual((JobState.LOST, spec.shortened()), (lost.state, lost.spec))
        self.assertEqual(spec, after.catalog.with_full_spec(lost).spec)

    def test_cannot_be_written(self) -> None:
        """Nothing goes on before it is written: the caller is told."""
        store = MemoryStore()
        self.successResultOf(worker_fixture(store=store).worker.submit(TRUE))
        store.broken = StoreFull("the disk is full")
        self.assertRaises(StoreFull, worker_fixture(store=store).take_over)


def held(job: Job, **more: Any) -> HeldProcess:
    """As the shim has it."""
    return HeldProcess(
        **{"job_id": job.id, "pid": job.pid or 5000, "ticks": 7, "started_at": 1_700_000_100.0, "pipes": (), **more}
    )


class TakeOverTests(SynchronousTestCase):
    """What the shim has kept goes on as if no worker had died."""

    def setUp(self) -> None:
        self.store = MemoryStore()
        self.before = worker_fixture(store=self.store)
        self.job = self.successResultOf(self.before.worker.submit(TRUE))

    def taken_over(self, **more: Any) -> WorkerFixture:
        after = worker_fixture(store=self.store)
        self.assertEqual((1, 0), after.take_over(held(self.job, **more)))
        return after

    def test_runs_on(self) -> None:
        """It is RUNNING as before, with the same start, can be stopped, and its end is its own."""
        after = self.taken_over()
        job = after.catalog.get(self.job.id)
        self.assertEqual((JobState.RUNNING, self.job.started_at, self.job.pid), (job.state, job.started_at, job.pid))
        self.successResultOf(after.worker.stop(self.job.id, 3.0))
        self.assertEqual([3.0], after.launcher.running[self.job.id].stops)
        after.launcher.running[self.job.id].exit(None, 15)
        self.assertEqual(JobState.STOPPED, after.catalog.get(self.job.id).state)
        self.assertTrue(after.launcher.running[self.job.id].released)

    def test_released_when_it_is_written(self) -> None:
        """The shim keeps an exit until the end is in the store: a worker that dies before finds it again."""
        self.store.broken = StoreFull("the disk is full")
        self.before.launcher.running[self.job.id].exit(3)
        self.assertFalse(self.before.launcher.running[self.job.id].released)

    def test_between_order_and_answer(self) -> None:
        """An order that was written down and whose process runs is that job, started when it was started."""
        self.store.kept[self.job.id] = replace(self.job, state=JobState.PENDING, started_at=None, pid=None, revision=1)
        job = self.taken_over(pid=4711).catalog.get(self.job.id)
        self.assertEqual((JobState.RUNNING, 4711, 1_700_000_100.0), (job.state, job.pid, job.started_at))

    def test_request_id(self) -> None:
        """The same request again brings the job that was taken over."""
        spec = JobSpec("true", request_id="once")
        self.job = self.successResultOf(self.before.worker.submit(spec))
        store, self.store = self.store, MemoryStore()
        self.store.kept[self.job.id] = store.kept[self.job.id]
        after = self.taken_over()
        self.assertEqual(self.job.id, self.successResultOf(after.worker.submit(spec)).id)

    def test_stop_under_way(self) -> None:
        """A stop that was begun goes on with what is left of its grace period; one that was only decided begins."""
        self.successResultOf(self.before.worker.stop(self.job.id, 5.0))
        after = self.taken_over(stopping=True, kill_at=123.0)
        self.assertEqual(
            ([123.0], []), (after.launcher.running[self.job.id].resumed, after.launcher.running[self.job.id].stops)
        )
        after = self.taken_over()
        self.assertEqual([10], after.launcher.running[self.job.id].stops)

    def test_ended_by_the_shim(self) -> None:
        """A limit that the shim enforced alone is told as what it was."""
        after = self.taken_over(stopping=True, reason=EndReason.TIMEOUT, kill_at=5.0)
        after.launcher.running[self.job.id].exit(None, 15)
        job = after.catalog.get(self.job.id)
        self.assertEqual((JobState.TIMED_OUT, "timed out after 60 s: signal: terminated"), (job.state, job.error_text))

    def test_exited_meanwhile(self) -> None:
        """An end that came meanwhile is told with its true time."""
        after = self.taken_over(exit={"exit_code": 3, "signal": None, "at": 1_700_000_200.0})
        job = after.catalog.get(self.job.id)
        self.assertEqual((JobState.FAILED, 3, 1_700_000_200.0), (job.state, job.exit_code, job.finished_at))

    def test_cannot_be_watched(self) -> None:
        """One that cannot be taken over is lost, and said to be."""
        after = worker_fixture(store=self.store)
        self.assertEqual((0, 1), after.take_over(held(self.job, pid=UNWATCHABLE)))
        self.assertEqual(JobState.LOST, after.catalog.get(self.job.id).state)


class ShimLostTests(SynchronousTestCase):
    def test_lost(self) -> None:
        """When the shim has ended its jobs are lost, once what they printed is written down; the next ones run."""
        fixture = worker_fixture()
        job = self.successResultOf(fixture.worker.submit(TRUE))
        lost = fixture.worker.shim_lost([job.id, "no-such-job"], "lost: the shim ended")
        self.assertNoResult(lost)
        self.assertEqual(JobState.RUNNING, fixture.catalog.get(job.id).state)
        fixture.launcher.running[job.id].abandoned.callback(None)
        self.successResultOf(lost)
        ended = fixture.catalog.get(job.id)
        self.assertEqual((JobState.LOST, "lost: the shim ended"), (ended.state, ended.error_text))
        self.assertEqual(JobState.RUNNING, self.successResultOf(fixture.worker.submit(TRUE)).state)


class LeaveTests(SynchronousTestCase):
    def test_left(self) -> None:
        """
        Jobs that are left stay RUNNING in the store; nothing new is taken; it fires when nothing is copied any
        more.
        """
        store = MemoryStore()
        fixture = worker_fixture(store=store)
        job = self.successResultOf(fixture.worker.submit(TRUE))
        left = fixture.worker.leave_all()
        self.failureResultOf(fixture.worker.submit(TRUE), WorkerStopping)
        self.assertNoResult(left)
        fixture.launcher.running[job.id].left.callback(None)
        self.assertEqual(1, self.successResultOf(left))
        self.assertEqual(JobState.RUNNING, store.kept[job.id].state)
        self.assertTrue(fixture.outputs.by_job[job.id].closed)
