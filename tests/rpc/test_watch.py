"""The events of one watcher, without threads, from a worker with fakes: the test triggers each change."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeVar, cast

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.support.fakes import worker_fixture
from tests.support.memory_store import MemoryStore
from txworker.jobs import Job, JobSpec
from txworker.jobs.errors import CallerGone, InvalidRequest, NoSuchJob, WorkerStopping
from txworker.pb import worker_pb2 as pb
from txworker.rpc import watch as watching
from txworker.rpc.bridge import Caller
from txworker.rpc.watch import watch
from txworker.worker import change_feed

T = TypeVar("T")

TRUE = JobSpec("true")


class FakeCaller:
    """Where it would wait, it makes the next thing happen; when nothing is left, it raises WorkerStopping."""

    def __init__(self) -> None:
        self.happens: list[Callable[[], Any]] = []

    def check(self) -> None:
        pass

    def call(self, ask: Callable[[], Deferred[T]], within_seconds: float | None = None) -> T:
        answer = ask()
        while not answer.called:
            if not self.happens:
                answer.addErrback(lambda failure: None)
                answer.cancel()
                raise WorkerStopping
            self.happens.pop(0)()
        found: list[Any] = []
        answer.addBoth(found.append)
        if isinstance(found[0], Failure):
            found[0].raiseException()
        return cast(T, found[0])


class WatchTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.fixture = worker_fixture()
        self.caller = FakeCaller()

    def start(self, spec: JobSpec = TRUE) -> Job:
        return self.successResultOf(self.fixture.worker.submit(spec))

    def end(self, job: Job, exit_code: int = 0) -> None:
        self.fixture.launcher.running[job.id].exit(exit_code)

    def events(self, **request: Any) -> Iterator[Job]:
        return watch(self.fixture.catalog, cast(Caller, self.caller), pb.WatchJobsReq(**request))

    def told(self, events: Iterator[Job]) -> list[tuple[str, str]]:
        """The states and jobs until the watcher would wait."""
        found: list[tuple[str, str]] = []
        with contextlib.suppress(WorkerStopping):
            found.extend((job.id, job.state.name) for job in events)
        return found

    def test_as_they_stand_then_changes(self) -> None:
        """First the present record of every job, then each change, and no record twice."""
        first, second = self.start(), self.start()
        self.end(first)
        self.caller.happens = [lambda: self.end(second), self.start]
        expected = [("job-2", "RUNNING"), ("job-1", "SUCCEEDED"), ("job-2", "SUCCEEDED"), ("job-3", "RUNNING")]
        self.assertEqual(expected, self.told(self.events()))

    def test_each_change(self) -> None:
        """A watcher that keeps up gets every state, however short; so does one that names the job."""
        events = self.events()
        self.caller.happens = [lambda: self.end(self.start())]
        self.assertEqual([("job-1", "RUNNING"), ("job-1", "SUCCEEDED")], self.told(events))
        for names in ([], ["job-1"]):
            self.fixture = worker_fixture()
            job = self.start()
            events = self.events(jobIDs=names)
            self.assertEqual("RUNNING", next(events).state.name)

            def stop_and_end(job: Job = job) -> None:
                self.successResultOf(self.fixture.worker.stop(job.id))
                self.end(job)

            self.caller.happens = [stop_and_end]
            self.assertEqual([("job-1", "STOPPING"), ("job-1", "STOPPED")], self.told(events))

    def test_output_so_far(self) -> None:
        """The record of an unfinished job counts the output written until it is sent, in whichever way it is found."""
        job = self.start()
        self.fixture.outputs.by_job[job.id].data = b"three"
        for names in ([], [job.id]):
            self.assertEqual(5, next(self.events(jobIDs=names)).output_bytes, names)
        events = self.events()
        next(events)
        self.successResultOf(self.fixture.worker.stop(job.id))
        stopping = next(events)
        self.assertEqual(("STOPPING", 5), (stopping.state.name, stopping.output_bytes))

    def test_slow(self) -> None:
        """A watcher that is many changes late gets the newest record of a job, not every change."""
        self.patch(change_feed, "HELD_CHANGES", 1)
        job = self.start()
        events = self.events()
        self.assertEqual("RUNNING", next(events).state.name)
        self.successResultOf(self.fixture.worker.stop(job.id))
        self.end(job)
        self.assertEqual([("job-1", "STOPPED")], self.told(events))

    def test_catches_up(self) -> None:
        """Changes that are no longer in memory come from the store, in blocks: none is missed, none comes twice."""
        self.patch(change_feed, "HELD_ENDS", 3)
        self.patch(change_feed, "HELD_CHANGES", 3)
        self.patch(watching, "JOBS_PER_READ", 2)
        running = self.start()
        events = self.events()
        self.assertEqual(running.id, next(events).id)
        ended = [self.start() for _ in range(12)]
        for job in ended:
            self.end(job)
        self.assertEqual([(job.id, "SUCCEEDED") for job in ended], self.told(events))
        everything = self.told(self.events())
        self.assertEqual(13, len(everything))
        self.assertEqual(13, len(set(everything)))

    def test_so_many_at_once(self) -> None:
        """With any size of a block: each job once with its present record, then each change."""
        self.patch(change_feed, "BATCH_JOBS", 2)
        jobs = [self.start() for _ in range(7)]
        for job in jobs[::2]:
            self.end(job)
        self.caller.happens = [lambda: self.end(jobs[1]), self.start]
        standing = [(job.id, "RUNNING") for job in jobs[1::2]] + [(job.id, "SUCCEEDED") for job in jobs[::2]]
        expected = [*standing, (jobs[1].id, "SUCCEEDED"), ("job-8", "RUNNING")]
        self.assertEqual(expected, self.told(self.events()))
        self.caller.happens = [partial(self.end, job) for job in jobs[3::2]]
        named = [(job.id, "RUNNING") for job in jobs[3::2]] + [(job.id, "SUCCEEDED") for job in jobs[3::2]]
        self.assertEqual(named, self.told(self.events(jobIDs=[job.id for job in jobs[3::2]])))

    def test_leaves_while_nothing_is_meant(self) -> None:
        """A watcher that leaves is noticed while the store is searched for labels that no job has."""
        self.patch(change_feed, "HELD_ENDS", 1)
        for _ in range(5):
            self.end(self.start())
        asked: list[Any] = []
        between = self.fixture.store.finished_between

        def noted(*words: Any) -> Any:
            asked.append(words)
            return between(*words)

        self.patch(self.fixture.store, "finished_between", noted)
        self.assertEqual([], self.told(self.events(labels={"a": "1"})))
        self.assertEqual([({"a": "1"}, self.caller.check)], [words[3:] for words in asked])

        def gone() -> None:
            raise CallerGone

        self.patch(self.caller, "check", gone)
        self.assertRaises(CallerGone, list, self.events(jobIDs=["job-1", "job-2"]))

    def test_too_many_labels(self) -> None:
        """More labels than a job can have are refused, as in a list."""
        refusal = self.assertRaises(InvalidRequest, self.events, labels={str(number): "" for number in range(101)})
        self.assertEqual("labels", refusal.field)

    def test_earlier_workers_jobs(self) -> None:
        """The present records include the jobs of earlier workers."""
        store = MemoryStore()
        self.fixture = worker_fixture(store=store)
        done, lost = self.start(), self.start()
        self.end(done, 1)
        self.fixture = worker_fixture(store=store)
        self.fixture.take_over()
        self.caller.happens = [self.start]
        expected = [(done.id, "FAILED"), (lost.id, "LOST"), ("job-3", "RUNNING")]
        self.assertEqual(expected, self.told(self.events()))

    def test_labels(self) -> None:
        """Only jobs with all the labels are sent, at first and later."""
        mine, other = JobSpec("true", labels={"a": "1", "b": "2"}), JobSpec("true", labels={"a": "1"})
        job = self.start(mine)
        self.start(other)
        self.caller.happens = [lambda: self.start(other), lambda: self.end(job), lambda: self.start(mine)]
        expected = [("job-1", "RUNNING"), ("job-1", "SUCCEEDED"), ("job-4", "RUNNING")]
        self.assertEqual(expected, self.told(self.events(labels={"a": "1", "b": "2"})))

    def test_named(self) -> None:
        """Named jobs: first the present records, then the changes. It ends by itself when all are done."""
        jobs = [self.start() for _ in range(3)]
        self.end(jobs[0])
        self.caller.happens = [lambda: self.end(jobs[2]), lambda: self.end(jobs[1])]
        names = [jobs[1].id, jobs[0].id, jobs[1].id]
        events = [(job.id, job.state.name) for job in self.events(jobIDs=names)]
        self.assertEqual([("job-2", "RUNNING"), ("job-1", "SUCCEEDED"), ("job-2", "SUCCEEDED")], events)

    def test_named_long_done(self) -> None:
        """Named jobs that are done are sent once, and the stream ends."""
        job = self.start()
        self.end(job)
        self.assertEqual(["SUCCEEDED"], [job.state.name for job in self.events(jobIDs=[job.id])])

    def test_named_and_not_there(self) -> None:
        """An unknown job id is refused; so is an empty one, which would otherwise mean every job."""
        job = self.start()
        self.assertRaises(NoSuchJob, list, self.events(jobIDs=[job.id, "unknown"]))
        self.assertRaises(InvalidRequest, self.events, jobIDs=[""])

    def test_worker_stops(self) -> None:
        """When the worker stops, the watcher gets the last changes first."""
        job = self.start()
        self.end(job)
        self.fixture.worker.close()
        events = self.events()
        self.assertEqual("SUCCEEDED", next(events).state.name)
        self.assertRaises(WorkerStopping, next, events)
