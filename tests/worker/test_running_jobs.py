"""Signals, sizes of terminals and renewals of leases: they reach the process and change no record."""

from __future__ import annotations

from dataclasses import replace

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.trial.unittest import SynchronousTestCase

from tests.support.fakes import worker_fixture
from txworker.jobs import EndReason, JobSpec, JobState
from txworker.jobs.errors import JobNotRunning, NoSuchJob, NoTerminal, NotPermitted, StoreFull

LEASED = JobSpec("true", lease_seconds=30)


class RunningJobsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.fixture = worker_fixture()
        self.job = self.successResultOf(self.fixture.worker.submit(LEASED))
        self.process = self.fixture.launcher.running[self.job.id]
        self.running = self.fixture.worker.running

    def starting(self) -> str:
        """The id of one more job, which is being launched."""
        self.fixture.launcher.slow = Deferred()
        self.fixture.worker.submit(LEASED)
        return "job-2"

    def test_signal(self) -> None:
        """A signal goes to the process group and changes nothing else: a job that ends by it was not stopped."""
        for number in (10, 19, 9):
            self.successResultOf(self.running.signal(self.job.id, number))
        self.assertEqual(([10, 19, 9], []), (self.process.signals, self.process.stops))
        self.assertEqual(JobState.RUNNING, self.fixture.catalog.get(self.job.id).state)
        self.process.exit(None, 9)
        found = self.fixture.catalog.get(self.job.id)
        self.assertEqual((JobState.FAILED, "signal: killed", None), (found.state, found.error_text, found.end_reason))

    def test_signal_refused(self) -> None:
        """A job without a process, or with one of another user, is not signalled, and the error says why."""
        self.process.unsignallable = ProcessExitedAlready()
        self.assertIn("has exited", str(self.failureResultOf(self.running.signal(self.job.id, 9), JobNotRunning).value))
        self.process.unsignallable = PermissionError()
        self.failureResultOf(self.running.signal(self.job.id, 9), NotPermitted)
        self.process.exit()
        self.assertIn("is done", str(self.failureResultOf(self.running.signal(self.job.id, 9), JobNotRunning).value))
        self.failureResultOf(self.running.signal("unknown", 9), NoSuchJob)

    def test_signal_too_early(self) -> None:
        """A job that is being launched has no process yet."""
        refusal = self.failureResultOf(self.running.signal(self.starting(), 9), JobNotRunning).value
        self.assertEqual("job 'job-2' is not started yet: it has no process to signal", str(refusal))

    def test_renew(self) -> None:
        """A renewal reaches the process of each job that was named; nothing is written, nothing is told."""
        before, kept = self.fixture.catalog.get(self.job.id), dict(self.fixture.store.kept)
        self.assertEqual([], self.successResultOf(self.running.renew_leases([self.job.id] * 3)))
        self.assertEqual(1, self.process.renewals)
        self.assertEqual((before, kept), (self.fixture.catalog.get(self.job.id), self.fixture.store.kept))

    def test_gone(self) -> None:
        """Jobs that are done, whose end is being written, or that nobody knows are gone, each named once."""
        self.fixture.store.broken = StoreFull("the disk is full")
        self.process.exit()
        for _ in range(2):
            gone = self.successResultOf(self.running.renew_leases(["unknown", self.job.id, "", "unknown"]))
            self.assertEqual(["unknown", self.job.id, ""], gone)
            self.fixture.store.repair()
        self.assertEqual(0, self.process.renewals)

    def test_not_gone(self) -> None:
        """A job that is being launched, that is being stopped, or that has no lease runs."""
        without = self.successResultOf(self.fixture.worker.submit(replace(LEASED, lease_seconds=None)))
        self.fixture.worker.stop(self.job.id)
        self.fixture.launcher.slow = Deferred()
        self.fixture.worker.submit(LEASED)
        self.assertEqual([], self.successResultOf(self.running.renew_leases([without.id, self.job.id, "job-3"])))

    def test_ran_out(self) -> None:
        """The record of a job whose lease ran out says so from the beginning of its end on."""
        self.process.listener.overdue(EndReason.LEASE)
        found = self.fixture.catalog.get(self.job.id)
        self.assertEqual((JobState.STOPPING, EndReason.LEASE), (found.state, found.end_reason))
        self.process.exit(None, 15)
        found = self.fixture.catalog.get(self.job.id)
        self.assertEqual(
            (JobState.STOPPED, "lease of 30 s ran out: signal: terminated"), (found.state, found.error_text)
        )


class ResizeTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.fixture = worker_fixture()
        self.worker = self.fixture.worker
        self.job = self.successResultOf(self.worker.submit(JobSpec("bash", tty=True)))
        self.running = self.fixture.launcher.running[self.job.id]

    def test_resize(self) -> None:
        """A running job's terminal gets that size."""
        self.successResultOf(self.worker.running.resize(self.job.id, 5, 9))
        self.assertEqual([(5, 9)], self.running.sizes)

    def test_no_terminal(self) -> None:
        """A job without a terminal, whether it runs or is done, says so."""
        job = self.successResultOf(self.worker.submit(JobSpec("bash")))
        self.failureResultOf(self.worker.running.resize(job.id, 5, 9), NoTerminal)
        self.fixture.launcher.running[job.id].exit()
        self.failureResultOf(self.worker.running.resize(job.id, 5, 9), NoTerminal)

    def test_over(self) -> None:
        """A job that has exited or is done has no terminal any more, and the error says which."""
        self.running.unsignallable = ProcessExitedAlready()
        error = self.failureResultOf(self.worker.running.resize(self.job.id, 5, 9), JobNotRunning).value
        self.assertIn("has exited", str(error))
        self.running.exit()
        self.assertIn(
            "is done", str(self.failureResultOf(self.worker.running.resize(self.job.id, 5, 9), JobNotRunning).value)
        )
        self.failureResultOf(self.worker.running.resize("nobody", 5, 9), NoSuchJob)
