"""CLONE_PARENT children: told from job leaders that are being launched, ended with their job."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.support.process_table import FakeProcessTable
from txworker.leftovers.attribution import JobLeader
from txworker.leftovers.clone_parent import FEW_JOBS
from txworker.leftovers.late_scan import LATE_SCAN_SECONDS
from txworker.leftovers.scan import DescendantScan
from txworker.leftovers.tags import Tag
from txworker.linux.procfs import Process

SHIM, SPAWN_THREAD = 50, 77


class CloneParentTests(SynchronousTestCase):
    """Job "a", whose leader is 100. Children of the spawn thread that are no leaders have pids from 300 on."""

    def setUp(self) -> None:
        self.table, self.clock = FakeProcessTable(reaper=SHIM), Clock()
        self.table.when_listed = self.list_read
        self.reads = 0
        self.scan = DescendantScan(self.clock, SHIM, SPAWN_THREAD, self.table)
        self.a = self.a_job("a", 100)

    def list_read(self) -> None:
        self.reads += 1

    def add(self, pid: int, session: int = 1, tag: Tag = "", start: int | None = None) -> Process:
        return self.table.add(pid, SHIM, session, tag, start=start, thread=SPAWN_THREAD)

    def a_job(self, job_id: str, pid: int) -> JobLeader:
        leader = self.scan.expect(job_id)
        self.add(pid)
        self.scan.enter(leader, pid)
        return leader

    def many_jobs(self) -> list[JobLeader]:
        """So many that the spawn thread's list is not read at each end."""
        return [self.a_job(f"other-{number}", 1000 + number) for number in range(FEW_JOBS + 20)]

    def left(self, job_id: str) -> list[int]:
        return sorted(process.pid for process in self.successResultOf(self.scan.remaining(job_id)))

    def known(self) -> list[int]:
        return self.scan.descendants.clone_parent.known

    def leftovers(self) -> set[int]:
        return {pid for pid in self.table.alive() if 300 <= pid < 400}

    def over(self, leader: JobLeader) -> None:
        """That job ends, and nothing is seen to be left of it."""
        self.scan.exited(leader)
        self.assertEqual([], self.left(leader.job_id))
        assert leader.pid is not None
        self.table.exits(leader.pid)
        self.scan.leave(leader)

    def test_left(self) -> None:
        """It belongs to the job whose session or tag it has; without these elimination decides, as for an orphan."""
        self.add(300, session=100)
        self.add(301, tag="a")
        self.add(302)
        self.assertEqual([300, 301], self.left("a"))
        self.scan.exited(self.a)
        self.assertEqual([300, 301, 302], self.left("a"))

    def test_killed(self) -> None:
        """It is killed with its job, at the end of the worker whichever job it belongs to; a job leader is not."""
        self.scan.kill("a", [self.add(300, tag="a")])
        self.assertEqual(([], set()), (self.left("a"), self.leftovers()))
        self.add(301)
        self.scan.kill_all()
        self.assertEqual({100}, self.table.alive())

    def test_launch_under_way(self) -> None:
        """A job leader whose launch is not known to have succeeded is never taken for one, whatever its tags."""
        leader = self.scan.expect("b")
        self.add(300)
        for tag in ("", "b"):
            self.table.tag(300, tag)
            for _ in range(3):
                self.assertEqual(([], []), (self.left("a"), self.known()))
                self.scan.kill_all()
        self.assertEqual({300}, self.leftovers())
        self.scan.enter(leader, 300)
        self.assertEqual(([], []), (self.left("b"), self.known()))

    def test_over(self) -> None:
        """A leader whose job is over is not read again while the shim holds it; another process of its pid is found."""
        self.over_as_zombie(self.a)
        b = self.a_job("b", 101)
        self.table.reads.clear()
        self.assertEqual([], self.left("b"))
        self.assertNotIn(100, self.table.reads)
        self.table.exits(100)
        self.assertEqual([], self.left("b"))
        self.add(100, tag="b")
        self.assertEqual([100], self.left("b"))
        self.scan.leave(b)

    def test_over_and_reused_unseen(self) -> None:
        """So is one that has the pid before a scan has seen that it was free, once the late scan has run."""
        self.over_as_zombie(self.a)
        self.a_job("b", 101)
        self.add(100, tag="b")
        self.clock.advance(LATE_SCAN_SECONDS)
        self.assertEqual([100], self.left("b"))

    def over_as_zombie(self, leader: JobLeader) -> None:
        """That job is over, and the shim has not reaped its leader."""
        assert leader.pid is not None
        self.table.exits(leader.pid, zombie=True)
        self.scan.exited(leader)
        self.scan.leave(leader)

    def test_beside_launches(self) -> None:
        """Beside launches one is known by a tag of another job, or by having been there before all of them."""
        first = self.scan.expect("b")
        self.add(300)
        self.add(301, tag="a")
        self.assertEqual([301], self.known_after_a_scan())
        second = self.scan.expect("c")
        self.assertEqual([301], self.known_after_a_scan())
        self.scan.leave(first)
        self.assertEqual([301, 300], self.known_after_a_scan())
        self.add(300, start=501)  # another process with its pid, perhaps of the second launch
        self.assertEqual([301], self.known_after_a_scan())
        self.scan.leave(second)
        self.assertEqual([301, 300], self.known_after_a_scan())

    def known_after_a_scan(self) -> list[int]:
        self.left("a")
        return self.known()

    def test_many_jobs(self) -> None:
        """Among many jobs an end does not read the list; what was left is found and ended within a second or two."""
        self.many_jobs()
        self.add(300, tag="a")
        self.add(301, session=100)
        self.add(302, tag="other-1")
        self.reads = 0
        self.over(self.a)
        self.assertEqual(1, self.reads)  # of orphans
        self.clock.advance(LATE_SCAN_SECONDS)
        self.assertEqual({302}, self.leftovers())
        self.clock.advance(LATE_SCAN_SECONDS)
        self.assertEqual([], self.clock.getDelayedCalls())
        self.assertEqual([302], self.left("other-1"))  # it is known by now, without another read

    def test_killed_among_many_jobs(self) -> None:
        """There, too, all are killed at the end of the worker, and those that appear while a job's are killed."""
        self.many_jobs()
        first = self.add(300, tag="a")
        self.scan.descendants.clone_parent.scan()
        self.table.on_signal = self.forks_before_it_is_stopped
        self.scan.kill("a", [first])
        self.assertEqual(set(), self.leftovers())
        self.scan.descendants.clone_parent.scan()
        self.add(302)
        self.scan.kill_all()
        self.assertEqual(set(), self.leftovers())

    def forks_before_it_is_stopped(self, process: Process, number: int) -> bool:
        if process.pid == 300:
            self.add(301, tag="a")
        return False

    def test_nothing_is_late(self) -> None:
        """One late scan serves all jobs that ended meanwhile; there is no other until a job leader exits."""
        others = self.many_jobs()
        for leader in others[:10]:
            self.over(leader)
        self.reads = 0
        self.clock.advance(LATE_SCAN_SECONDS)
        self.assertEqual((1, []), (self.reads, self.clock.getDelayedCalls()))
        self.scan.exited(others[10])
        self.clock.advance(LATE_SCAN_SECONDS)
        self.assertEqual((2, []), (self.reads, self.clock.getDelayedCalls()))

    def test_slow_scan(self) -> None:
        """A late scan that took long is not repeated before ten times as long has passed."""
        others = self.many_jobs()

        def slowly() -> None:
            self.reads += 1
            self.clock.rightNow += 0.5

        self.table.when_listed = slowly
        self.scan.exited(others[10])
        self.clock.advance(LATE_SCAN_SECONDS)
        self.scan.exited(others[11])
        self.clock.advance(4.9)
        self.assertEqual(1, self.reads)
        self.clock.advance(0.2)
        self.assertEqual(2, self.reads)

    def test_cannot_read(self) -> None:
        """While there is no descriptor to read with, a job that is to be checked stays so."""
        self.many_jobs()
        self.add(300, tag="a")
        self.over(self.a)
        self.table.problem = OSError(24, "Too many open files")
        self.clock.advance(LATE_SCAN_SECONDS)
        self.table.problem = None
        self.clock.advance(LATE_SCAN_SECONDS)
        self.assertEqual(set(), self.leftovers())
