"""What is in force for a job, as its record tells it."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txworker.jobs import JobSpec
from txworker.worker.policy import Policy


class SettingsTests(SynchronousTestCase):
    def directory(self, worker: str, job: str = "") -> str:
        """The directory of a job that asks for one, on a worker whose jobs run in another."""
        policy = Policy(0, 10.0, directory=worker)
        return policy.settings(JobSpec("true", directory=job)).directory

    def test_directory(self) -> None:
        """A job's directory is relative to the worker's."""
        self.assertEqual("/work", self.directory("/work"))
        self.assertEqual("/work/a", self.directory("/work", "a"))
        self.assertEqual("/b", self.directory("/work", "/b"))

    def test_directory_that_is_no_text(self) -> None:
        """A name that is not UTF-8 is told with U+FFFD: the store and the wire take text only."""
        self.assertEqual("/w\ufffd\ufffd/a", self.directory("/w\udcff\udc80", "a"))
