"""Earlier workers' unfinished jobs: the decision, and how the worker applies it."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from tests.support.fakes import WorkerFixture, worker_fixture
from tests.support.memory_store import MemoryStore
from tests.support.observer import RecordingObserver
from txworker.jobs import EndReason, Exit, Job, JobSpec, JobState, Query
from txworker.jobs.errors import (
    OutOfResources,
    StoreFull,
    WorkerStopping,
)
from txworker.jobs.held_process import HeldProcess
from txworker.jobs.query import BEYOND_NEWEST
from txworker.worker.takeover import LostJob, ShimJobs, decide, without_shim

TRUE = JobSpec("true", "a/path", timeout_seconds=60)


def job(job_id: str, state: JobState = JobState.RUNNING) -> Job:
    """An unfinished job."""
    return Job(job_id, JobSpec("true"), 0.0, state=state)


def held_process(job_id: str) -> HeldProcess:
    """A process that the shim holds."""
    return HeldProcess(job_id, 4711, 7, 0.0, ())


class DecideTests(SynchronousTestCase):
    RUNNING, STOPPING, PENDING = job("running"), job("stopping", JobState.STOPPING), job("pending", JobState.PENDING)
    UNFINISHED = (RUNNING, STOPPING, PENDING)

    def test_no_shim(self) -> None:
        """Without a shim every unfinished job is lost, also a PENDING one: its process may have been started."""
        takeover = decide(self.UNFINISHED, ShimJobs(), "lost: testing")
        self.assertEqual(tuple(LostJob(one, "lost: testing") for one in self.UNFINISHED), takeover.lost)
        self.assertEqual(((), (), ()), (takeover.run_on, takeover.never_started, takeover.release))

    def test_unended(self) -> None:
        """A lost job's text names the processes that could not be ended; no other job's does."""
        takeover = decide(self.UNFINISHED, ShimJobs(), "lost: testing", {"stopping": "process 7 still runs"})
        self.assertEqual(
            ["lost: testing", "lost: testing; process 7 still runs", "lost: testing"],
            [lost.text for lost in takeover.lost],
        )

    def test_held(self) -> None:
        """Held jobs run on, whatever their state; what the shim holds beside them is released."""
        shim = ShimJobs({one: held_process(one) for one in ("running", "pending", "finished")})
        takeover = decide(self.UNFINISHED, shim, "lost: testing")
        self.assertEqual(["running", "pending"], [one.job.id for one in takeover.run_on])
        self.assertEqual(["running", "pending"], [one.held.job_id for one in takeover.run_on])
        self.assertEqual(["stopping"], [one.job.id for one in takeover.lost])
        self.assertEqual(["finished"], [one.job_id for one in takeover.release])

    def test_never_started(self) -> None:
        """A PENDING job that the earlier worker's own shim does not hold has no process; a RUNNING one is lost."""
        takeover = decide(self.UNFINISHED, ShimJobs(complete=True), "lost: testing")
        self.assertEqual((self.PENDING,), takeover.never_started)
        self.assertEqual([self.RUNNING, self.STOPPING], [one.job for one in takeover.lost])

    def test_without_shim(self) -> None:
        """Processes are looked for only of jobs that the shim neither holds nor is starting."""
        shim = ShimJobs({"running": held_process("running")}, starting=["pending"], complete=True)
        self.assertEqual([self.STOPPING], without_shim(self.UNFINISHED, shim))


class LostTests(SynchronousTestCase):
    def test_lost(self) -> None:
        """Unfinished jobs that no shim holds are lost, with the given text; finished jobs stay."""
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
        """Numbers and revisions continue the earlier worker's, so that the order stays newest first."""
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
        """A watcher of the new worker gets the lost jobs from the store, and then the changes."""
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

    def test_long_spec(self) -> None:
        """The full spec of a lost job is still there."""
        store = MemoryStore()
        spec = JobSpec("true", args=("x" * 10_000, "last"))
        job = self.successResultOf(worker_fixture(store=store).worker.submit(spec))
        after = worker_fixture(store=store)
        after.take_over()
        lost = after.catalog.get(job.id)
        self.assertEqual((JobState.LOST, spec.shortened()), (lost.state, lost.spec))
        self.assertEqual(spec, after.catalog.with_full_spec(lost).spec)

    def test_cannot_be_written(self) -> None:
        """If the result cannot be written, take_over() raises."""
        store = MemoryStore()
        self.successResultOf(worker_fixture(store=store).worker.submit(TRUE))
        store.broken = StoreFull("the disk is full")
        self.assertRaises(StoreFull, worker_fixture(store=store).take_over)


def held(job: Job, **more: Any) -> HeldProcess:
    """The job's process, as a shim holds it."""
    return HeldProcess(
        **{"job_id": job.id, "pid": job.pid or 5000, "ticks": 7, "started_at": 1_700_000_100.0, "pipes": (), **more}
    )


class TakeOverTests(SynchronousTestCase):
    """Jobs that the shim holds run on as if no worker had died."""

    def setUp(self) -> None:
        self.store = MemoryStore()
        self.before = worker_fixture(store=self.store)
        self.job = self.successResultOf(self.before.worker.submit(TRUE))

    def taken_over(self, **more: Any) -> WorkerFixture:
        after = worker_fixture(store=self.store)
        self.assertEqual((1, 0), after.take_over(held(self.job, **more)))
        return after

    def test_watchers(self) -> None:
        """A new watcher sees the jobs that were taken over; one that knows their records waits for a change."""
        other = self.successResultOf(self.before.worker.submit(TRUE))
        after = worker_fixture(store=self.store)
        after.take_over(held(self.job), held(other))
        seen = self.successResultOf(after.catalog.changes.since(0))
        self.assertEqual({self.job.id, other.id}, {job.id for job in seen.jobs})
        self.assertEqual(sorted(job.revision for job in seen.jobs), [job.revision for job in seen.jobs])
        self.assertNoResult(after.catalog.changes.since(seen.upto))
        changed = after.catalog.changes.of({job.id: job.revision for job in seen.jobs})
        self.assertNoResult(changed)
        after.launcher.running[other.id].exit(0)
        self.assertEqual([JobState.SUCCEEDED], [job.state for job in self.successResultOf(changed).jobs])

    def test_runs_on(self) -> None:
        """The job is RUNNING with its old start time, can be stopped, and has its own end."""
        after = self.taken_over()
        job = after.catalog.get(self.job.id)
        self.assertEqual((JobState.RUNNING, self.job.started_at, self.job.pid), (job.state, job.started_at, job.pid))
        self.successResultOf(after.worker.stop(self.job.id, 3.0))
        self.assertEqual([3.0], after.launcher.running[self.job.id].stops)
        after.launcher.running[self.job.id].exit(None, 15)
        self.assertEqual(JobState.STOPPED, after.catalog.get(self.job.id).state)
        self.assertTrue(after.launcher.running[self.job.id].released)

    def test_counted(self) -> None:
        """Each worker that takes a job over is counted in its record, and what the job was started with stays."""
        for count in (1, 2):
            after = self.taken_over()
            self.assertEqual(count, after.catalog.get(self.job.id).takeovers)
        after.launcher.running[self.job.id].exit()
        found = after.catalog.get(self.job.id)
        self.assertEqual((2, self.job.settings), (found.takeovers, found.settings))

    def test_released_when_it_is_written(self) -> None:
        """A process is released only when its end is in the store: a worker that dies earlier finds it again."""
        self.store.broken = StoreFull("the disk is full")
        self.before.launcher.running[self.job.id].exit(3)
        self.assertFalse(self.before.launcher.running[self.job.id].released)

    def test_before_the_start_was_written(self) -> None:
        """A PENDING job with a held process becomes RUNNING, with the process's start time."""
        self.store.kept[self.job.id] = replace(self.job, state=JobState.PENDING, started_at=None, pid=None, revision=1)
        job = self.taken_over(pid=4711).catalog.get(self.job.id)
        self.assertEqual((JobState.RUNNING, 4711, 1_700_000_100.0), (job.state, job.pid, job.started_at))

    def test_request_id(self) -> None:
        """A repeated request gets the job that was taken over."""
        spec = JobSpec("true", request_id="once")
        self.job = self.successResultOf(self.before.worker.submit(spec))
        store, self.store = self.store, MemoryStore()
        self.store.kept[self.job.id] = store.kept[self.job.id]
        after = self.taken_over()
        self.assertEqual(self.job.id, self.successResultOf(after.worker.submit(spec)).id)

    def test_stop_under_way(self) -> None:
        """A stop that had begun continues with the rest of its grace period; one that was only decided begins."""
        self.successResultOf(self.before.worker.stop(self.job.id, 5.0))
        after = self.taken_over(stopping=True, kill_at=123.0)
        self.assertEqual(
            ([123.0], []), (after.launcher.running[self.job.id].resumed, after.launcher.running[self.job.id].stops)
        )
        after = self.taken_over()
        self.assertEqual([10], after.launcher.running[self.job.id].stops)

    def test_reason(self) -> None:
        """The first reason of a stop counts, also if no worker has stored it: the shim knows it."""
        self.successResultOf(self.before.worker.stop(self.job.id))
        taken = self.taken_over(stopping=True, reason=EndReason.LEASE, kill_at=5.0).launcher.running[self.job.id]
        self.assertEqual([EndReason.REQUESTED], taken.reasons)
        self.job = self.successResultOf(self.before.worker.submit(TRUE))
        after = worker_fixture(store=self.store)
        after.take_over(held(self.job, stopping=True, reason=EndReason.LEASE, kill_at=5.0))
        after.worker.stop_all()
        running = after.launcher.running[self.job.id]
        self.assertEqual([EndReason.LEASE, EndReason.LEASE], running.reasons)
        running.exit(None, 15)
        self.assertEqual(EndReason.LEASE, after.catalog.get(self.job.id).end_reason)

    def test_ended_by_the_shim(self) -> None:
        """A time limit that the shim enforced without a worker shows as TIMED_OUT."""
        after = self.taken_over(stopping=True, reason=EndReason.TIMEOUT, kill_at=5.0)
        after.launcher.running[self.job.id].exit(None, 15)
        job = after.catalog.get(self.job.id)
        self.assertEqual((JobState.TIMED_OUT, "timed out after 60 s: signal: terminated"), (job.state, job.error_text))

    def test_exited_meanwhile(self) -> None:
        """An exit that came meanwhile has its true time."""
        after = self.taken_over(exit={"exit_code": 3, "signal": None, "at": 1_700_000_200.0})
        job = after.catalog.get(self.job.id)
        self.assertEqual((JobState.FAILED, 3, 1_700_000_200.0), (job.state, job.exit_code, job.finished_at))

    def test_never_started(self) -> None:
        """Neither record nor output is left of a job that was never started."""
        self.store.kept[self.job.id] = replace(self.job, state=JobState.PENDING, started_at=None, pid=None, revision=1)
        after = worker_fixture(store=self.store)
        after.outputs.create(self.job.id, False, 0)
        takeover = decide(self.store.unfinished(), ShimJobs(complete=True), "lost: testing")
        self.assertEqual((0, 0), after.worker.take_over(takeover, lambda one: ""))
        self.assertEqual(({}, {}), (self.store.kept, after.outputs.by_job))

    def test_never_started_and_disk_broken(self) -> None:
        """The record of such a job is dropped also if its output cannot be removed, which the log tells."""
        self.store.kept[self.job.id] = replace(self.job, state=JobState.PENDING, started_at=None, pid=None, revision=1)
        after = worker_fixture(store=self.store)
        self.patch(after.outputs, "remove", self._refuse)
        takeover = decide(self.store.unfinished(), ShimJobs(complete=True), "lost: testing")
        with capturedLogs() as logs:
            after.worker.take_over(takeover, lambda one: "")
        self.assertEqual({}, self.store.kept)
        self.assertIn("Input/output error", "".join(formatEvent(event) for event in logs))

    def _refuse(self, job_ids: Iterable[str]) -> None:
        raise OSError(5, "Input/output error")

    def test_cannot_be_taken_over(self) -> None:
        """A job that cannot be taken over is ended, and then lost, with a sentence that says why."""
        after = worker_fixture(store=self.store)
        after.outputs.unreadable = OSError(5, "Input/output error")
        process = held(self.job)
        self.assertEqual((0, 1), after.take_over(process))
        self.assertEqual([process], after.untaken)
        lost = after.catalog.get(self.job.id)
        text = "lost: it could not be taken over (Input/output error), so it was ended; process 7 still runs"
        self.assertEqual((JobState.LOST, text, True), (lost.state, lost.error_text, lost.output_truncated))

    def test_output_of_one_that_is_not_taken_over(self) -> None:
        """When its pipes cannot be watched, its output is closed, and kept."""
        after = worker_fixture(store=self.store)
        after.launcher.unwatchable = OSError(1, "Operation not permitted")
        self.assertEqual((0, 1), after.take_over(held(self.job)))
        output = after.outputs.by_job[self.job.id]
        self.assertEqual((True, False), (output.closed, output.discarded))

    def test_scarce(self) -> None:
        """While the machine lacks descriptors or memory, no job is ended for it: the takeover is refused."""
        for number in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC):
            after = worker_fixture(store=self.store)
            after.launcher.unwatchable = OSError(number, "none left")
            with self.assertRaisesRegex(OutOfResources, f"job {self.job.id} cannot be taken over: none left"):
                after.take_over(held(self.job))
            self.assertEqual([], after.untaken)
            self.assertEqual(JobState.RUNNING, self.store.kept[self.job.id].state)


class ShimLostTests(SynchronousTestCase):
    def test_lost(self) -> None:
        """Jobs of a shim that has ended are lost once their output is written; new jobs run."""
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

    def test_exit_is_known(self) -> None:
        """A job whose process had exited before its shim ended has its own end, once; what lives on is named."""
        fixture = worker_fixture(observer=(observer := RecordingObserver()))
        job = self.successResultOf(fixture.worker.submit(TRUE))
        fixture.worker.shim_lost([job.id], "lost: the shim ended", {job.id: "process 7 still runs"})
        fixture.launcher.running[job.id].abandoned.callback(Exit(3))
        ended = fixture.catalog.get(job.id)
        self.assertEqual((JobState.FAILED, 3), (ended.state, ended.exit_code))
        self.assertIn("process 7 still runs", ended.error_text)
        self.assertEqual([("ended", "FAILED", 0)], observer.of("ended"))


class LeaveTests(SynchronousTestCase):
    def test_left(self) -> None:
        """Jobs that are left stay RUNNING in the store, new jobs are refused, and it fires when copying has ended."""
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

    def test_viewers(self) -> None:
        """Viewers of a job that is left are sent away at once, and later ones as well: none waits, and none spins."""
        fixture = worker_fixture()
        job = self.successResultOf(fixture.worker.submit(TRUE))
        waiting = fixture.catalog.more_output(job.id, 0, False)
        fixture.worker.leave_all()
        self.assertNoResult(waiting)
        fixture.launcher.running[job.id].left.callback(None)
        self.failureResultOf(waiting, WorkerStopping)
        self.failureResultOf(fixture.catalog.more_output(job.id, 0, False), WorkerStopping)
