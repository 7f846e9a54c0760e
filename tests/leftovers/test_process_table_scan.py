"""What is left of a job where there is no shim, in a made-up process table."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.support.process_table import FakeProcessTable
from txworker.leftovers.attribution import JobLeader
from txworker.leftovers.process_table_scan import ProcessTableScan
from txworker.leftovers.tags import rlimit_tag_for

JOB, OTHER = 100, 200


class ProcessTableScanTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.table = FakeProcessTable()
        self.table.ticks = 10_000
        self.table.add(1, parent=0, start=1)
        self.scan = ProcessTableScan(self.table)

    def later(self, ticks: int) -> None:
        self.table.ticks += ticks

    def a_job(self, pid: int = JOB, job_id: str = "job") -> JobLeader:
        leader = self.scan.expect(job_id)
        self.table.add(pid)
        self.scan.enter(leader, pid)
        self.later(100)
        return leader

    def exits(self, leader: JobLeader) -> None:
        assert leader.pid is not None
        self.table.exits(leader.pid)
        self.scan.exited(leader)

    def left(self, job_id: str = "job") -> list[int]:
        return sorted(process.pid for process in self.successResultOf(self.scan.remaining(job_id)))

    def test_nothing(self) -> None:
        """Other processes, older or younger, do not belong to the job."""
        self.table.add(50)
        leader = self.a_job()
        self.table.add(150)
        self.exits(leader)
        self.assertEqual([], self.left())

    def test_found(self) -> None:
        """By session, by its tags, and by descent from one of these; not zombies."""
        leader = self.a_job()
        self.table.add(110, session=JOB)
        self.table.add(111, tag="job")
        self.table.add(112, tag=rlimit_tag_for("job"))
        self.table.add(113, parent=112)
        self.table.add(114, session=JOB, zombie=True)
        self.exits(leader)
        self.assertEqual([110, 111, 112, 113], self.left())

    def test_closed(self) -> None:
        """After close() nothing is answered: a cleanup of what cannot be ended asks on."""
        self.exits(self.a_job())
        self.scan.close()
        self.assertNoResult(self.scan.remaining("job"))

    def test_others(self) -> None:
        """What belongs to another running job does not, and neither does that job's leader."""
        leader = self.a_job()
        self.a_job(OTHER, "other")
        self.table.add(110, session=JOB)
        self.table.add(210, session=OTHER)
        self.table.add(211, tag="other")
        self.exits(leader)
        self.assertEqual([110], self.left())

    def test_pid_given_away(self) -> None:
        """Another process that got its pid does not belong to it, and neither does that one's session."""
        self.exits(self.a_job())
        self.later(10)
        self.table.add(JOB)
        self.table.add(110, parent=JOB, session=JOB)
        self.assertEqual([], self.left())

    def test_session_in_use(self) -> None:
        """While the session has a member no process gets its pid: what is born in it later belongs to the job."""
        leader = self.a_job()
        self.table.add(110, session=JOB)
        self.exits(leader)
        self.later(1000)
        self.table.add(111, session=JOB)
        self.assertEqual([110, 111], self.left())
        self.table.exits(110)
        self.later(1000)
        self.table.add(112, session=JOB)
        self.assertEqual([111, 112], self.left())

    def test_gone_before_it_is_read(self) -> None:
        """A process that forks and exits may leave a successor that was not in the list: new ones are read again."""
        leader = self.a_job()
        self.exits(leader)
        for pid in (300, 301):
            self.table.when_read[pid] = lambda pid=pid: self.forks(pid)  # type: ignore[misc]
        self.table.add(300, tag="job")
        self.assertEqual([302], self.left())
        self.assertEqual(3, self.table.lists)

    def forks(self, pid: int) -> None:
        self.table.add(pid + 1, tag="job")
        self.table.exits(pid)

    def test_tags_are_read_at_once(self) -> None:
        """A tag counts though it cannot be read any more a moment later."""
        leader = self.a_job()
        self.table.add(110, tag="job")
        self.table.add(105)
        self.table.when_read[105] = lambda: self.table.tag(110, "")
        self.exits(leader)
        self.assertEqual([110], self.left())

    def test_before_its_exit(self) -> None:
        """A job leader was killed and is not seen to exit: what it left so far is found, without itself."""
        self.a_job()
        self.table.add(110, parent=JOB, session=JOB)
        self.assertEqual([110], self.left())

    def test_tags_of_old_ones_are_not_read(self) -> None:
        """The tags of processes that are much older than the job are not read."""
        self.table.add(50)
        self.later(100_000)
        self.exits(self.a_job())
        self.left()
        self.assertNotIn(50, self.table.tag_reads)

    def test_kill(self) -> None:
        """What belongs to the job is killed, and nothing else; at the end that of all running jobs."""
        leader = self.a_job()
        self.a_job(OTHER, "other")
        self.table.add(110, tag="job")
        self.table.add(210, tag="other")
        self.table.add(310)
        self.exits(leader)
        self.scan.kill("job", [])
        self.assertEqual({1, OTHER, 210, 310}, self.table.alive())
        self.scan.kill_all()
        self.assertEqual({1, OTHER, 310}, self.table.alive())

    def test_over(self) -> None:
        """After a job is over nothing of it is remembered; nor after a launch that failed."""
        self.scan.leave(self.scan.expect("failed"))
        leader = self.a_job()
        self.exits(leader)
        self.table.add(110, tag="job")
        self.scan.leave(leader)
        self.scan.kill_all()
        self.assertIn(110, self.table.alive())
        self.failureResultOf(self.scan.remaining("job"))
