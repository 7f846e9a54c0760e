"""One call that feeds a job's stdin."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.support.fakes import worker_fixture
from txworker.jobs import JobSpec
from txworker.jobs.errors import CallerGone, FeedInProgress, JobNotRunning, NoSuchJob, NotFed, OutOfResources
from txworker.process.job_stdin import JobStdin
from txworker.worker.feeder import Feeder


class FeederTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.fixture = worker_fixture()
        self.running = self.fixture.worker.running
        self.job = self.successResultOf(self.fixture.worker.submit(JobSpec("cat", feed=True)))
        self.handed: list[tuple[bytes, bool]] = []
        self.problem: OSError | None = None
        self.stdin = JobStdin(self.hand_over, {"taken": 0, "busy": False, "open": True})
        self.process = self.fixture.launcher.running[self.job.id]
        self.process.stdin = self.stdin

    def hand_over(self, data: bytes, end: bool) -> None:
        if self.problem is not None:
            raise self.problem
        self.handed.append((data, end))

    def fed(self, taken: int, is_open: bool = True) -> None:
        self.stdin.fed({"taken": taken, "busy": False, "open": is_open})

    def open(self) -> Feeder:
        return self.successResultOf(self.running.feeder(self.job.id))

    def test_to_the_end(self) -> None:
        """Pieces are fed one after another; the end ends the feeding, and the answer counts this call's bytes."""
        self.stdin.taken = 10  # by an earlier call
        feeder = self.open()
        over = feeder.over()
        first = feeder.feed(b"abc", False)
        self.assertNoResult(first)
        self.fed(13)
        self.assertTrue(self.successResultOf(first))
        last = feeder.feed(b"", True)
        self.fed(13, is_open=False)
        self.assertFalse(self.successResultOf(last))
        self.successResultOf(over)
        self.assertEqual((3, 13, [(b"abc", False), (b"", True)]), (feeder.taken, feeder.total, self.handed))

    def test_nothing(self) -> None:
        """A message without data and without end changes nothing, also when the stdin is closed."""
        feeder = self.open()
        self.assertTrue(self.successResultOf(feeder.feed(b"", False)))
        self.fed(0, is_open=False)
        self.assertFalse(self.successResultOf(feeder.feed(b"", False)))
        self.assertEqual([], self.handed)

    def test_one_at_a_time(self) -> None:
        """A second call is refused until the first is closed; what that one waited for is not fed any more."""
        first = self.open()
        under_way, behind = first.feed(b"a", False), first.feed(b"b", False)
        self.failureResultOf(self.running.feeder(self.job.id), FeedInProgress)
        first.close()
        self.failureResultOf(behind, CancelledError)
        self.failureResultOf(first.feed(b"c", False), CallerGone)
        second = self.open()
        first.close()
        self.failureResultOf(self.running.feeder(self.job.id), FeedInProgress)
        self.fed(1)
        second.feed(b"d", False)
        self.assertEqual([(b"a", False), (b"d", False)], self.handed)
        self.successResultOf(under_way)

    def test_error(self) -> None:
        """What went wrong with the client's messages ends the feeding; later reasons do not count."""
        feeder = self.open()
        over = feeder.over()
        feeder.finish(CallerGone())
        feeder.finish()
        self.failureResultOf(over, CallerGone)

    def test_no_descriptor(self) -> None:
        """When bytes cannot be passed on, that is a matter of resources, and says why."""
        self.problem = OSError(24, "Too many open files")
        failure = self.failureResultOf(self.open().feed(b"a", False), OutOfResources)
        self.assertIn("Too many open files", str(failure.value))

    def test_refused(self) -> None:
        """A job that is unknown, was started without feed, is being launched, or is done cannot be fed."""
        self.failureResultOf(self.running.feeder("unknown"), NoSuchJob)
        plain = self.successResultOf(self.fixture.worker.submit(JobSpec("true")))
        self.failureResultOf(self.running.feeder(plain.id), NotFed)
        self.fixture.launcher.slow = Deferred()
        self.fixture.worker.submit(JobSpec("true", feed=True))
        self.failureResultOf(self.running.feeder("job-3"), JobNotRunning)
        self.process.exit()
        self.failureResultOf(self.running.feeder(self.job.id), JobNotRunning)
