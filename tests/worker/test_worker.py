"""The worker's decisions, with fakes for processes, output and the store."""

from __future__ import annotations

from twisted.internet.defer import Deferred
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
    WorkerStopping,
)
from txworker.jobs.query import BEYOND_NEWEST

TRUE = JobSpec("true", "a/path", timeout_seconds=60)


class LateStore(MemoryStore):
    """Writes at once, and its Deferreds never fire."""

    def save(self, job: Job) -> Deferred[None]:
        super().save(job)
        return Deferred()


class SubmitTests(SynchronousTestCase):
    def test_runs(self) -> None:
        """An accepted job is known, runs, and has its process's pid."""
        fixture = worker_fixture()
        job = self.successResultOf(fixture.worker.submit(TRUE))
        self.assertEqual((JobState.RUNNING, 1000, job), (job.state, job.pid, fixture.catalog.get(job.id)))

    def test_cannot_be_started(self) -> None:
        """A failed launch leaves no job and no output."""
        fixture = worker_fixture()
        fixture.launcher.refusal = NoSuchExecutable("true")
        self.failureResultOf(fixture.worker.submit(TRUE), NoSuchExecutable)
        self.assertTrue(fixture.outputs.by_job["job-1"].discarded)
        self.assertRaises(NoSuchJob, fixture.catalog.get, "job-1")
        self.assertEqual([], fixture.worker.running_ids())

    def test_no_output_file(self) -> None:
        """If the output file cannot be created, no job is launched."""
        fixture = worker_fixture()
        fixture.outputs.refusal = OSError(24, "Too many open files")
        self.failureResultOf(fixture.worker.submit(TRUE), OutOfResources)
        self.assertEqual({}, fixture.launcher.running)

    def test_refusals(self) -> None:
        """Nothing is launched for a cancelled call, above a ceiling, or while stopping."""
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
        """A job gets the requested limit, else the default, else the ceiling; its record shows the requested one."""
        fixture = worker_fixture(default=Limits(max_open_files=5), ceiling=Limits(max_open_files=9, max_processes=7))
        asked = self.successResultOf(fixture.worker.submit(JobSpec("true", limits=Limits(max_open_files=9))))
        silent = self.successResultOf(fixture.worker.submit(TRUE))
        self.assertEqual(Limits(max_open_files=9, max_processes=7), fixture.launcher.specs[asked.id].limits)
        self.assertEqual(Limits(max_open_files=5, max_processes=7), fixture.launcher.specs[silent.id].limits)
        self.assertEqual(Limits(), silent.spec.limits)
        self.assertEqual(Limits(max_open_files=5, max_processes=7), fixture.catalog.get(silent.id).settings.limits)

    def test_settings(self) -> None:
        """A job's record has the directory and the user that it runs with."""
        worker = worker_fixture(directory="/srv", user="nobody").worker
        for directory, found in (("", "/srv"), ("a/b", "/srv/a/b"), ("/tmp", "/tmp")):
            settings = self.successResultOf(worker.submit(JobSpec("true", directory=directory))).settings
            self.assertEqual((found, "nobody"), (settings.directory, settings.user))

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
        """The record has the exit code, the usage and the output size; the output is closed."""
        self.output.write(1, b"12345")
        self.running.exit(3)
        job = self.fixture.catalog.get(self.job.id)
        self.assertEqual(
            (JobState.FAILED, 3, 5, 4096), (job.state, job.exit_code, job.output_bytes, job.usage.max_rss_bytes)
        )
        self.assertTrue(self.output.closed)

    def test_written_and_not_published_yet(self) -> None:
        """Between the writing and the publishing of an end, page() and get() both show the end."""
        fixture = worker_fixture(store=LateStore())
        job = self.successResultOf(fixture.worker.submit(TRUE))
        fixture.launcher.running[job.id].exit()
        ended = fixture.catalog.get(job.id)
        self.assertTrue(ended.done)
        self.assertEqual([ended], list(fixture.catalog.page(Query(), BEYOND_NEWEST, 10)))
        self.assertEqual([], list(fixture.catalog.page(Query(frozenset({JobState.RUNNING})), BEYOND_NEWEST, 10)))

    def test_output_bytes_while_running(self) -> None:
        """A running job's record has the output size so far."""
        self.output.write(1, b"123")
        self.assertEqual(3, self.fixture.catalog.get(self.job.id).output_bytes)

    def test_stop(self) -> None:
        """A stop is answered before the job ends, passes the grace period on, and may be repeated."""
        self.assertEqual(JobState.STOPPING, self.successResultOf(self.stop()).state)
        self.successResultOf(self.stop(0.5))
        self.assertEqual([10, 0.5], self.running.stops)
        self.running.exit(None, 15)
        self.assertEqual(JobState.STOPPED, self.successResultOf(self.stop()).state)
        self.assertEqual([10, 0.5], self.running.stops)

    def test_stop_is_logged_once(self) -> None:
        """Repeated stops are logged once, and again only when the grace period becomes much shorter."""
        with capturedLogs() as events:
            for grace in (10.0, 10.0, None, 9.0, 60.0, 4.0, 3.0, 0.0, 0.0, 5.0):
                self.stop(grace)
        self.assertEqual([10.0, 4.0, 0.0], [event["grace"] for event in events if "grace" in event])

    def test_stop_unknown(self) -> None:
        """Stopping an unknown job fails."""
        self.failureResultOf(self.fixture.worker.stop("nobody"), NoSuchJob)

    def test_running(self) -> None:
        """The processes of running jobs, of all or of the named ones; one that is done has none, an unknown fails."""
        other = self.successResultOf(self.fixture.worker.submit(TRUE))
        catalog, pids = self.fixture.catalog, {one.job_id: one.pid for one in self.fixture.catalog.running([])}
        self.assertEqual({self.job.id: self.running.pid, other.id: self.running.pid + 1}, pids)
        self.assertEqual([other.id], [one.job_id for one in catalog.running([other.id, other.id])])
        self.running.exit()
        self.assertEqual([other.id], [one.job_id for one in catalog.running([self.job.id, other.id])])
        self.assertEqual([], catalog.running([self.job.id]))
        self.assertRaises(NoSuchJob, catalog.running, [other.id, "nobody"])

    def test_overdue(self) -> None:
        """A job that a time limit ended is TIMED_OUT."""
        self.running.listener.overdue(EndReason.TIMEOUT)
        self.running.exit(None, 15)
        self.assertEqual(JobState.TIMED_OUT, self.fixture.catalog.get(self.job.id).state)

    def test_find(self) -> None:
        """find() takes an id, or else the path of the newest job; an empty name matches no job."""
        newer = self.successResultOf(self.fixture.worker.submit(TRUE))
        self.assertEqual(newer.id, self.fixture.catalog.find("a/path").id)
        self.assertEqual(self.job.id, self.fixture.catalog.find(self.job.id).id)
        for name in ("", "a/pat"):
            self.assertRaises(NoSuchJob, self.fixture.catalog.find, name)

    def test_waiting_for_output(self) -> None:
        """A viewer is told of more output and of the end, and never waits once the job is done."""
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
        """stop_all() ends every job, and fires when the last is done."""
        all_done = self.fixture.worker.stop_all()
        self.assertEqual([10], self.running.stops)
        self.assertNoResult(all_done)
        self.running.exit(None, 15)
        self.successResultOf(all_done)
        self.assertEqual(EndReason.WORKER_STOPPING, self.fixture.catalog.get(self.job.id).end_reason)


class BrokenStoreTests(SynchronousTestCase):
    """An end that cannot be written is kept until it can be, and is not shown before."""

    def setUp(self) -> None:
        self.fixture = worker_fixture()
        self.store, self.worker, self.catalog = self.fixture.store, self.fixture.worker, self.fixture.catalog
        self.job = self.successResultOf(self.worker.submit(TRUE))
        self.running = self.fixture.launcher.running[self.job.id]
        self.store.broken = StoreBroken("the disk is gone")

    def test_end_is_not_shown(self) -> None:
        """An end that is not written is not shown: not by get(), page(), the change feed or more_output()."""
        change = self.catalog.changes.of({self.job.id: self.job.revision})
        output = self.catalog.more_output(self.job.id, 0, False)
        self.running.exit(3)
        self.assertEqual(JobState.RUNNING, self.catalog.get(self.job.id).state)
        running = self.catalog.page(Query(frozenset([JobState.RUNNING])), BEYOND_NEWEST, 10)
        self.assertEqual([self.job.id], [job.id for job in running])
        self.assertNoResult(change)
        self.assertNoResult(output)
        self.store.repair()
        self.assertEqual(
            (JobState.FAILED, 3), (self.catalog.get(self.job.id).state, self.catalog.get(self.job.id).exit_code)
        )
        self.successResultOf(change)
        self.successResultOf(output)

    def test_stop(self) -> None:
        """A job can be stopped meanwhile; also when it has ended and the end is not written."""
        self.successResultOf(self.worker.stop(self.job.id))
        self.assertEqual([10], self.running.stops)
        self.running.exit(None, 15)
        self.assertEqual(JobState.STOPPING, self.successResultOf(self.worker.stop(self.job.id)).state)
        self.assertEqual([10], self.running.stops)
        self.store.repair()
        self.assertEqual(JobState.STOPPED, self.catalog.get(self.job.id).state)

    def test_worker_stops(self) -> None:
        """stop_all() ends the jobs, and fires when their ends are written."""
        stopped = self.worker.stop_all()
        self.assertEqual([10], self.running.stops)
        self.running.exit(None, 15)
        self.assertNoResult(stopped)
        self.assertEqual(JobState.RUNNING, self.store.kept[self.job.id].state)
        self.store.repair()
        self.successResultOf(stopped)
        self.assertEqual(JobState.STOPPED, self.store.kept[self.job.id].state)

    def test_order(self) -> None:
        """Facts that became known meanwhile are published in order once they are written."""
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
