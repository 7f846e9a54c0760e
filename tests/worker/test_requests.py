"""Repeated request ids: one process, whatever happens meanwhile."""

from __future__ import annotations

import gc
from dataclasses import replace
from unittest import mock
from weakref import ref

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.support.fakes import WorkerFixture, worker_fixture
from tests.support.memory_store import MemoryStore
from txworker.jobs import JobSpec, JobState
from txworker.jobs.errors import (
    CallerGone,
    InvalidRequest,
    NoSuchExecutable,
    RequestReused,
    StoreFull,
)

TRUE = JobSpec("true", "a/path", timeout_seconds=60)


class RequestTests(SynchronousTestCase):
    """One request id, one process, whatever happens meanwhile."""

    SPEC = JobSpec("true", request_id="r")

    def fixture(self) -> WorkerFixture:
        fixture = worker_fixture()
        fixture.store.slow = True
        return fixture

    def test_at_once(self) -> None:
        """A hundred identical requests during the launch: one process, and all get the same job."""
        fixture = self.fixture()
        answers = [fixture.worker.submit(self.SPEC) for _ in range(100)]
        fixture.store.write_pending()
        self.assertEqual({"job-1"}, {self.successResultOf(answer).id for answer in answers})
        self.assertEqual(["job-1"], list(fixture.launcher.running))

    def test_different_spec_at_once(self) -> None:
        """A different spec with the same id is refused at once, also during the launch."""
        fixture = self.fixture()
        answer = fixture.worker.submit(self.SPEC)
        failure = self.failureResultOf(fixture.worker.submit(JobSpec("true", "x", request_id="r")), RequestReused)
        self.assertIn("different path", str(failure.value))
        fixture.store.write_pending()
        self.successResultOf(answer)

    def test_first_fails(self) -> None:
        """When the first launch fails, the others are tried, and each gets its own error."""
        fixture = self.fixture()
        fixture.launcher.refusal = NoSuchExecutable("true")
        answers = [fixture.worker.submit(self.SPEC) for _ in range(300)]
        for answer in answers:
            fixture.store.write_pending()
            self.failureResultOf(answer, NoSuchExecutable)
        self.assertEqual({}, fixture.store.kept)

    def test_second_succeeds(self) -> None:
        """A cancelled first request does not affect the next one, which is launched."""
        fixture = self.fixture()
        first = fixture.worker.submit(self.SPEC, lambda: False)
        second, third = fixture.worker.submit(self.SPEC), fixture.worker.submit(self.SPEC)
        fixture.store.slow = False
        fixture.store.write_pending()
        self.failureResultOf(first, CallerGone)
        self.assertEqual({"job-2"}, {self.successResultOf(answer).id for answer in (second, third)})
        self.assertEqual(["job-2"], list(fixture.launcher.running))

    def test_caller_leaves_during_the_launch(self) -> None:
        """A repeated request whose caller leaves while the launch of the first hangs keeps nothing."""
        fixture = worker_fixture()
        fixture.launcher.slow = Deferred()
        first = fixture.worker.submit(self.SPEC)
        there = [True]
        again = replace(self.SPEC)
        kept = ref(again)
        second = fixture.worker.submit(again, lambda: there[0])
        there[0] = False
        second.cancel()
        self.failureResultOf(second, CallerGone, CancelledError)
        del again, second
        gc.collect()
        self.assertIsNone(kept())
        fixture.launcher.slow.callback(None)
        self.assertEqual("job-1", self.successResultOf(first).id)

    def test_not_dropped_yet(self) -> None:
        """A job whose launch failed is no answer, also while the store cannot drop it yet."""
        fixture = self.fixture()

        def break_and_refuse() -> bool:
            fixture.store.broken = StoreFull("the disk is full")
            return False

        first = fixture.worker.submit(self.SPEC, break_and_refuse)
        second = fixture.worker.submit(self.SPEC)
        fixture.store.slow = False
        fixture.store.write_pending()
        self.failureResultOf(first, CallerGone)
        self.failureResultOf(second, StoreFull)
        self.assertIn("job-1", fixture.store.kept)
        self.assertIsNone(fixture.catalog.submitted(self.SPEC))
        fixture.store.repair()
        self.assertEqual("job-3", self.successResultOf(fixture.worker.submit(self.SPEC)).id)

    def test_submitted(self) -> None:
        """submitted() gives None during the launch, then the job, also when it is done."""
        fixture = self.fixture()
        answer = fixture.worker.submit(self.SPEC)
        self.assertIsNone(fixture.catalog.submitted(self.SPEC))
        fixture.store.write_pending()
        job = self.successResultOf(answer)
        self.assertEqual(job, fixture.catalog.submitted(self.SPEC))
        fixture.launcher.running[job.id].exit()
        self.assertEqual(fixture.catalog.get(job.id), fixture.catalog.submitted(self.SPEC))
        self.assertRaises(RequestReused, fixture.catalog.submitted, JobSpec("false", request_id="r"))
        self.assertIsNone(fixture.catalog.submitted(TRUE))

    def test_long_spec(self) -> None:
        """Long specs are compared in full, although records are shortened: during the launch, the run and after it."""
        fixture = worker_fixture()
        spec = JobSpec("true", args=("x" * 10_000, "a"), env={"A": "y" * 10_000}, request_id="r")
        others = {
            "args": replace(spec, args=("x" * 10_000, "b")),
            "env": replace(spec, env={"A": "y" * 9_999 + "z"}),
        }
        job = self.successResultOf(fixture.worker.submit(spec))
        self.assertLess(len(str(job.spec)), 20_000)
        self.assertEqual("x" * 10_000, fixture.launcher.specs[job.id].args[0])
        for done in (False, True):
            if done:
                fixture.launcher.running[job.id].exit()
            self.assertEqual(job.id, self.successResultOf(fixture.worker.submit(replace(spec))).id)
            for name, other in others.items():
                failure = self.failureResultOf(fixture.worker.submit(other), RequestReused)
                self.assertIn(f"with a different {name}", str(failure.value))
                self.assertRaises(RequestReused, fixture.catalog.submitted, other)
            found = fixture.catalog.submitted(spec)
            self.assertEqual(job.spec, found and found.spec)
            self.assertEqual("", fixture.catalog.with_full_spec(fixture.catalog.get(job.id)).spec.difference(spec))

    def test_impossible(self) -> None:
        """A spec that no process can be made of is refused before it is submitted."""
        fixture = self.fixture()
        fixture.launcher.impossible = InvalidRequest("args", 3_000_000, "bytes are too long")
        self.assertRaises(InvalidRequest, fixture.worker.check, self.SPEC)

    def test_cut_within_quotes(self) -> None:
        """A command whose kept beginning ends within quotes runs, and the same request gets the same job."""
        fixture = worker_fixture()
        for command in ("bash -c '" + "x " * 5000 + "'", "echo " + "\\" * 5000):
            spec = JobSpec(command, request_id=command[:4])
            job = self.successResultOf(fixture.worker.submit(spec))
            self.assertEqual(spec.argv, fixture.launcher.specs[job.id].argv)
            self.assertEqual(job.id, self.successResultOf(fixture.worker.submit(replace(spec))).id)
        self.assertEqual(2, len(fixture.launcher.running))

    def test_trouble_after_the_launch(self) -> None:
        """Whatever fails once the process runs, the job keeps its record: the same request starts no second one."""
        observer = mock.Mock(started=mock.Mock(side_effect=[ZeroDivisionError, None]))
        fixture = worker_fixture(observer=observer)
        self.failureResultOf(fixture.worker.submit(self.SPEC), ZeroDivisionError)
        (job_id,) = fixture.launcher.running
        self.assertEqual(JobState.RUNNING, fixture.catalog.get(job_id).state)
        self.assertEqual(job_id, self.successResultOf(fixture.worker.submit(self.SPEC)).id)
        self.assertEqual([job_id], list(fixture.launcher.running))

    def test_while_draining(self) -> None:
        """A repeated request gets its job also when new jobs are refused, or max_running is reached."""
        fixture = worker_fixture(max_running=1)
        job = self.successResultOf(fixture.worker.submit(self.SPEC))
        self.assertEqual(job.id, self.successResultOf(fixture.worker.submit(self.SPEC)).id)
        fixture.worker.refuse()
        self.assertEqual(job.id, self.successResultOf(fixture.worker.submit(self.SPEC)).id)

    def test_across_a_restart(self) -> None:
        """A repeated request gets an earlier worker's job, however it ended."""
        store = MemoryStore()
        before = worker_fixture(store=store)
        job = self.successResultOf(before.worker.submit(self.SPEC))
        after = worker_fixture(store=store)
        after.take_over()
        again = self.successResultOf(after.worker.submit(self.SPEC))
        self.assertEqual((job.id, JobState.LOST), (again.id, again.state))
        self.failureResultOf(after.worker.submit(JobSpec("false", request_id="r")), RequestReused)
        self.assertEqual({}, after.launcher.running)
