"""The worker's decisions, with nothing real around it."""

from __future__ import annotations

from collections.abc import Iterable

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from tests.support.fakes import worker_fixture
from tests.support.memory_store import MemoryStore
from txworker.jobs import EndReason, Job, JobSpec, JobState, Limits, Query
from txworker.jobs.errors import (
    CallerGone,
    InvalidRequest,
    NoSuchExecutable,
    NoSuchJob,
    OutOfResources,
    RequestReused,
    StoreBroken,
    StoreFull,
    WorkerStopping,
)
from txworker.jobs.query import BEYOND_NEWEST

TRUE = JobSpec("true", "a/path", timeout_seconds=60)


class LateStore(MemoryStore):
    """Writes at once, and never tells."""

    def save(self, job: Job) -> Deferred[None]:
        super().save(job)
        return Deferred()


class SubmitTests(SynchronousTestCase):
    def test_runs(self) -> None:
        """A job that was taken is known, runs, and has the pid it was launched with."""
        fixture = worker_fixture()
        job = self.successResultOf(fixture.worker.submit(TRUE))
        self.assertEqual((JobState.RUNNING, 1000, job), (job.state, job.pid, fixture.catalog.get(job.id)))

    def test_cannot_be_started(self) -> None:
        """What cannot be started leaves no job and no output."""
        fixture = worker_fixture()
        fixture.launcher.refusal = NoSuchExecutable("true")
        self.failureResultOf(fixture.worker.submit(TRUE), NoSuchExecutable)
        self.assertTrue(fixture.outputs.by_job["job-1"].discarded)
        self.assertRaises(NoSuchJob, fixture.catalog.get, "job-1")
        self.assertEqual([], fixture.worker.running_ids())

    def test_no_output_file(self) -> None:
        """Without a place for its output no job is launched."""
        fixture = worker_fixture()
        fixture.outputs.refusal = OSError(24, "Too many open files")
        self.failureResultOf(fixture.worker.submit(TRUE), OutOfResources)
        self.assertEqual({}, fixture.launcher.running)

    def test_refusals(self) -> None:
        """Nothing is launched for a caller who has gone, above a ceiling, or when stopping."""
        fixture = worker_fixture(max_running=1, ceiling=Limits(max_open_files=9))
        self.failureResultOf(fixture.worker.submit(TRUE, lambda: False), CallerGone)
        self.failureResultOf(fixture.worker.submit(JobSpec("true", limits=Limits(max_open_files=10))), InvalidRequest)
        first = self.successResultOf(fixture.worker.submit(TRUE))
        self.failureResultOf(fixture.worker.submit(TRUE), OutOfResources)
        fixture.launcher.running[first.id].exit()
        self.successResultOf(fixture.worker.submit(TRUE))
        fixture.worker.refuse()
        self.failureResultOf(fixture.worker.submit(TRUE), WorkerStopping)
        self.assertEqual(2, len(fixture.launcher.running))

    def test_limits(self) -> None:
        """A job gets what it asked for, else the default, else the ceiling; its record shows what was asked."""
        fixture = worker_fixture(default=Limits(max_open_files=5), ceiling=Limits(max_open_files=9, max_processes=7))
        asked = self.successResultOf(fixture.worker.submit(JobSpec("true", limits=Limits(max_open_files=9))))
        silent = self.successResultOf(fixture.worker.submit(TRUE))
        self.assertEqual(Limits(max_open_files=9, max_processes=7), fixture.launcher.specs[asked.id].limits)
        self.assertEqual(Limits(max_open_files=5, max_processes=7), fixture.launcher.specs[silent.id].limits)
        self.assertEqual(Limits(), silent.spec.limits)

    def test_request_id(self) -> None:
        """The same request id brings the same job back, also when it is done; a different request is refused."""
        fixture = worker_fixture()
        spec = JobSpec("true", request_id="r")
        job = self.successResultOf(fixture.worker.submit(spec))
        fixture.launcher.running[job.id].exit()
        self.assertEqual(job.id, self.successResultOf(fixture.worker.submit(spec)).id)
        failure = self.failureResultOf(fixture.worker.submit(JobSpec("false", request_id="r")), RequestReused)
        self.assertIn("different command", str(failure.value))
        self.assertEqual(1, len(fixture.launcher.running))


class EndTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.fixture = worker_fixture()
        self.job = self.successResultOf(self.fixture.worker.submit(TRUE))
        self.running = self.fixture.launcher.running[self.job.id]
        self.output = self.fixture.outputs.by_job[self.job.id]

    def stop(self, grace: float | None = None) -> Deferred[Job]:
        return self.fixture.worker.stop(self.job.id, grace)

    def test_end(self) -> None:
        """How it ended, what it used and how much it printed is in the record; its output is closed."""
        self.output.write(1, b"12345")
        self.running.exit(3)
        job = self.fixture.catalog.get(self.job.id)
        self.assertEqual(
            (JobState.FAILED, 3, 5, 4096), (job.state, job.exit_code, job.output_bytes, job.usage.max_rss_bytes)
        )
        self.assertTrue(self.output.closed)

    def test_written_and_not_told_yet(self) -> None:
        """Between the writing of an end and its telling, a list and a question say the same: the end."""
        fixture = worker_fixture(store=LateStore())
        job = self.successResultOf(fixture.worker.submit(TRUE))
        fixture.launcher.running[job.id].exit()
        ended = fixture.catalog.get(job.id)
        self.assertTrue(ended.done)
        self.assertEqual([ended], list(fixture.catalog.page(Query(), BEYOND_NEWEST, 10)))
        self.assertEqual([], list(fixture.catalog.page(Query(frozenset({JobState.RUNNING})), BEYOND_NEWEST, 10)))

    def test_output_bytes_while_running(self) -> None:
        """A running job says how much it has printed so far."""
        self.output.write(1, b"123")
        self.assertEqual(3, self.fixture.catalog.get(self.job.id).output_bytes)

    def test_stop(self) -> None:
        """A stop is answered before the job ended, passes the grace period on, and again is fine."""
        self.assertEqual(JobState.STOPPING, self.successResultOf(self.stop()).state)
        self.successResultOf(self.stop(0.5))
        self.assertEqual([10, 0.5], self.running.stops)
        self.running.exit(None, 15)
        self.assertEqual(JobState.STOPPED, self.successResultOf(self.stop()).state)
        self.assertEqual([10, 0.5], self.running.stops)

    def test_told_once(self) -> None:
        """However often somebody asks for its end the log says it once, and again when it is to come much sooner."""
        with capturedLogs() as events:
            for grace in (10.0, 10.0, None, 9.0, 60.0, 4.0, 3.0, 0.0, 0.0, 5.0):
                self.stop(grace)
        self.assertEqual([10.0, 4.0, 0.0], [event["grace"] for event in events if "grace" in event])

    def test_stop_unknown(self) -> None:
        """There is no stopping what there is not."""
        self.failureResultOf(self.fixture.worker.stop("nobody"), NoSuchJob)

    def test_overdue(self) -> None:
        """A job that was ended for a time limit says so."""
        self.running.listener.overdue(EndReason.TIMEOUT)
        self.running.exit(None, 15)
        self.assertEqual(JobState.TIMED_OUT, self.fixture.catalog.get(self.job.id).state)

    def test_find(self) -> None:
        """A stream's name is an id first, then the path of the newest job; an empty one is nobody's."""
        newer = self.successResultOf(self.fixture.worker.submit(TRUE))
        self.assertEqual(newer.id, self.fixture.catalog.find("a/path").id)
        self.assertEqual(self.job.id, self.fixture.catalog.find(self.job.id).id)
        for name in ("", "a/pat"):
            self.assertRaises(NoSuchJob, self.fixture.catalog.find, name)

    def test_waiting_for_output(self) -> None:
        """A viewer hears of more output, of the end, and waits for nothing once the job is done."""
        more = self.fixture.catalog.more_output(self.job.id, 0, False)
        self.assertNoResult(more)
        self.output.write(1, b"x")
        self.successResultOf(more)
        last = self.fixture.catalog.more_output(self.job.id, 1, False)
        self.running.exit()
        self.successResultOf(last)
        self.assertTrue(self.fixture.catalog.get(self.job.id).done)
        self.successResultOf(self.fixture.catalog.more_output(self.job.id, 1, False))

    def test_stop_all(self) -> None:
        """When the worker stops it ends every job, and is through when the last is done."""
        all_done = self.fixture.worker.stop_all()
        self.assertEqual([10], self.running.stops)
        self.assertNoResult(all_done)
        self.running.exit(None, 15)
        self.successResultOf(all_done)
        self.assertEqual(EndReason.WORKER_STOPPING, self.fixture.catalog.get(self.job.id).end_reason)


def ids(jobs: Iterable[Job]) -> list[str]:
    return [job.id for job in jobs]


class OrderTests(SynchronousTestCase):
    """The order in which things are done: written, launched, answered."""

    def setUp(self) -> None:
        self.fixture = worker_fixture()
        self.store, self.launcher, self.worker = self.fixture.store, self.fixture.launcher, self.fixture.worker
        self.catalog = self.fixture.catalog

    def test_written_first(self) -> None:
        """Nothing is launched before the order is written, and only then is it answered."""
        self.store.slow = True
        answer = self.worker.submit(TRUE)
        self.assertEqual({}, self.launcher.running)
        self.assertRaises(NoSuchJob, self.catalog.get, "job-1")
        self.store.write_pending()
        self.assertEqual(["job-1"], list(self.launcher.running))
        self.assertEqual("job-1", self.successResultOf(answer).id)

    def test_cannot_be_written(self) -> None:
        """An order that cannot be written is refused with the reason; nothing is launched, no file is made."""
        self.store.broken = StoreFull("the disk is full")
        failure = self.failureResultOf(self.worker.submit(TRUE), StoreFull)
        self.assertIn("the disk is full", str(failure.value))
        self.assertEqual(({}, {}, {}), (self.launcher.running, self.fixture.outputs.by_job, self.store.kept))
        self.store.repair()
        self.successResultOf(self.worker.submit(TRUE))

    def test_dropped(self) -> None:
        """An order that could not be launched is not in the store any more."""
        self.launcher.refusal = NoSuchExecutable("true")
        self.failureResultOf(self.worker.submit(TRUE), NoSuchExecutable)
        self.assertEqual({}, self.store.kept)

    def test_caller_leaves(self) -> None:
        """Who leaves while it is being written stops the waiting only; what was wanted last thing, is launched."""
        self.store.slow = True
        answer = self.worker.submit(TRUE)
        answer.cancel()
        self.failureResultOf(answer, CancelledError)
        self.store.write_pending()
        self.assertEqual(["job-1"], list(self.launcher.running))

    def test_gone_meanwhile(self) -> None:
        """But for a caller who is gone when it is written nothing is launched, and nothing stays."""
        self.store.slow = True
        answer = self.worker.submit(TRUE, lambda: False)
        self.store.write_pending()
        self.failureResultOf(answer, CallerGone)
        self.assertEqual(({}, {}), (self.launcher.running, self.store.kept))

    def test_refused_meanwhile(self) -> None:
        """Nor is it when the worker takes nothing more by then; the end of the worker waits for that."""
        self.store.slow = True
        answer = self.worker.submit(TRUE)
        drained = self.worker.drain()
        self.assertNoResult(drained)
        self.store.write_pending()
        self.failureResultOf(answer, WorkerStopping)
        self.successResultOf(drained)
        self.assertEqual(({}, {}), (self.launcher.running, self.store.kept))

    def test_launch_that_takes_its_time(self) -> None:
        """A job is nobody's until it runs; an end of the worker that comes meanwhile waits for it, and ends it."""
        self.launcher.slow = Deferred()
        answer = self.worker.submit(TRUE)
        stopped = self.worker.stop_all()
        self.assertNoResult(answer)
        self.assertEqual(["job-1"], self.worker.running_ids())
        self.launcher.slow.callback(None)
        self.assertEqual("job-1", self.successResultOf(answer).id)
        running = self.launcher.running["job-1"]
        self.assertEqual([10], running.stops)
        self.assertNoResult(stopped)
        running.exit(None, 15)
        self.successResultOf(stopped)
        self.assertEqual(EndReason.WORKER_STOPPING, self.catalog.get("job-1").end_reason)

    def test_drained_meanwhile(self) -> None:
        """A drain lets a job that is just being launched come to its own end."""
        self.launcher.slow = Deferred()
        answer = self.worker.submit(TRUE)
        drained = self.worker.drain()
        self.launcher.slow.callback(None)
        self.successResultOf(answer)
        self.assertEqual([], self.launcher.running["job-1"].stops)
        self.assertNoResult(drained)
        self.launcher.running["job-1"].exit()
        self.successResultOf(drained)

    def test_room_counts_the_starting(self) -> None:
        """Jobs that are being written count for max_running."""
        fixture = worker_fixture(max_running=2)
        fixture.store.slow = True
        answers = [fixture.worker.submit(TRUE) for _ in range(2)]
        self.failureResultOf(fixture.worker.submit(TRUE), OutOfResources)
        fixture.store.write_pending()
        self.assertEqual(2, len([self.successResultOf(answer) for answer in answers]))


class BrokenStoreTests(SynchronousTestCase):
    """What was promised is kept until it can be written, and is shown to nobody before."""

    def setUp(self) -> None:
        self.fixture = worker_fixture()
        self.store, self.worker, self.catalog = self.fixture.store, self.fixture.worker, self.fixture.catalog
        self.job = self.successResultOf(self.worker.submit(TRUE))
        self.running = self.fixture.launcher.running[self.job.id]
        self.store.broken = StoreBroken("the disk is gone")

    def test_end_is_not_shown(self) -> None:
        """An end that is not written is not told: not to who asks, who lists, who watches, who waits for output."""
        change = self.catalog.changes.of({self.job.id: self.job.revision})
        output = self.catalog.more_output(self.job.id, 0, False)
        self.running.exit(3)
        self.assertEqual(JobState.RUNNING, self.catalog.get(self.job.id).state)
        self.assertEqual([self.job.id], ids(self.catalog.page(Query(frozenset([JobState.RUNNING])), BEYOND_NEWEST, 10)))
        self.assertNoResult(change)
        self.assertNoResult(output)
        self.store.repair()
        self.assertEqual(
            (JobState.FAILED, 3), (self.catalog.get(self.job.id).state, self.catalog.get(self.job.id).exit_code)
        )
        self.successResultOf(change)
        self.successResultOf(output)

    def test_stop(self) -> None:
        """A job can be stopped meanwhile, and also once it has ended without that being written."""
        self.successResultOf(self.worker.stop(self.job.id))
        self.assertEqual([10], self.running.stops)
        self.running.exit(None, 15)
        self.assertEqual(JobState.STOPPING, self.successResultOf(self.worker.stop(self.job.id)).state)
        self.assertEqual([10], self.running.stops)
        self.store.repair()
        self.assertEqual(JobState.STOPPED, self.catalog.get(self.job.id).state)

    def test_worker_stops(self) -> None:
        """Jobs are ended when the worker stops; that their ends can be written is waited for by the caller's limit."""
        stopped = self.worker.stop_all()
        self.assertEqual([10], self.running.stops)
        self.running.exit(None, 15)
        self.assertNoResult(stopped)
        self.assertEqual(JobState.RUNNING, self.store.kept[self.job.id].state)
        self.store.repair()
        self.successResultOf(stopped)
        self.assertEqual(JobState.STOPPED, self.store.kept[self.job.id].state)

    def test_order(self) -> None:
        """What became known meanwhile is told in its order once it is written."""
        self.successResultOf(self.worker.stop(self.job.id))
        self.running.exit(None, 15)
        told = self.catalog.changes.since(self.job.revision)
        self.assertNoResult(told)
        self.store.repair()
        self.assertEqual([JobState.STOPPING], [job.state for job in self.successResultOf(told).jobs])
        last = self.successResultOf(
            self.catalog.changes.since(self.successResultOf(self.catalog.changes.since(0)).jobs[0].revision - 1)
        )
        self.assertEqual([JobState.STOPPED], [job.state for job in last.jobs])


class PageTests(SynchronousTestCase):
    def test_running_and_finished(self) -> None:
        """A page has running and finished jobs in one order, newest first, each as it stands, as many as were asked."""
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
