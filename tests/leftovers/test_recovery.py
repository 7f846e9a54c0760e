"""Ending what lost jobs left behind, in a made-up process table; with real processes: tests/live/test_orphans.py."""

from __future__ import annotations

from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from tests.support.process_table import FakeProcessTable
from txworker.leftovers.recorded_jobs import RecordedJob
from txworker.leftovers.recovery import end_lost_jobs
from txworker.leftovers.tags import rlimit_tag_for
from txworker.linux.procfs import Process


class RecoveryTests(SynchronousTestCase):
    """Job "job" was lost at 1000; its leader is 100, started at 400."""

    def setUp(self) -> None:
        self.table = FakeProcessTable()
        self.table.add(1, parent=0)

    def end(
        self, is_lost_job: Callable[[str], bool] = lambda job_id: False, survivors: list[Process] | None = None
    ) -> int:
        jobs = [RecordedJob("job", 100, 400)]
        return end_lost_jobs(jobs, is_lost_job, 1000, survivors, limit_seconds=0, table=self.table)

    def test_ended(self) -> None:
        """What belongs to a lost job is killed and counted: by pid, session, tag and descent; nothing else is."""
        self.table.add(100, start=400)
        self.table.add(101, parent=100, session=100)
        self.table.add(102, tag=rlimit_tag_for("job"))
        self.table.add(103, tag="forgotten")
        self.table.add(104, tag="of another worker")
        self.assertEqual(4, self.end(lambda job_id: job_id == "forgotten"))
        self.assertEqual({1, 104}, self.table.alive())

    def test_nothing(self) -> None:
        """When nothing is left nothing is signalled."""
        self.table.add(5)
        self.assertEqual((0, []), (self.end(), self.table.signals))

    def test_chain(self) -> None:
        """A process that forks and exits while it is read is followed to the next link."""
        self.table.add(200, tag="job")
        self.table.when_tags_read[200] = self.forks
        self.assertEqual(1, self.end())
        self.assertEqual({1}, self.table.alive())

    def forks(self) -> None:
        self.table.add(201, tag="job")
        self.table.exits(200)

    def test_fast_chain(self) -> None:
        """A chain that makes another link while all pids are read is caught by watching the newest process."""
        self.table.add(200, tag="job")
        self.table.when_listed = self.link_ends
        self.table.on_signal = self.is_caught
        self.assertEqual(1, self.end())
        self.assertEqual({1}, self.table.alive())

    def link_ends(self) -> None:
        last = self.table.newest_pid()
        self.table.add(last + 1, tag="job")
        self.table.exits(last)

    def is_caught(self, process: Process, number: int) -> bool:
        self.table.when_listed = lambda: None
        return False

    def test_survivors(self) -> None:
        """A process that may not be signalled is not counted but reported."""
        self.table.forbidden = {200}
        self.table.add(200, tag="job")
        self.table.add(201, tag="job")
        survivors: list[Process] = []
        self.assertEqual(1, self.end(survivors=survivors))
        self.assertEqual([200], [process.pid for process in survivors])
