"""When the scan reads, what it finds, and how it kills, in a made-up process table."""

from __future__ import annotations

from collections.abc import Callable
from signal import SIGKILL, SIGSTOP

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.support.process_table import FakeProcessTable
from txworker.leftovers.attribution import JobLeader
from txworker.leftovers.kill import Killer
from txworker.leftovers.scan import DescendantScan
from txworker.linux.procfs import Process

SHIM, SPAWN_THREAD = 50, 77


class ScanTests(SynchronousTestCase):
    """Jobs "a", whose leader is 100, and "b", 200. Their leftovers have pids from 300 on."""

    def setUp(self) -> None:
        self.table, self.clock = FakeProcessTable(reaper=SHIM), Clock()
        self.while_asleep: Callable[[], object] = lambda: None
        killer = Killer(self.table, sleep=self.sleep)
        self.scan = DescendantScan(self.clock, SHIM, SPAWN_THREAD, self.table, killer)
        self.a, self.b = self.a_job("a", 100), self.a_job("b", 200)

    def sleep(self, seconds: float) -> None:
        self.while_asleep()

    def a_job(self, job_id: str, pid: int) -> JobLeader:
        leader = self.scan.expect(job_id)
        self.table.add(pid, SHIM, thread=SPAWN_THREAD)
        self.scan.enter(leader, pid)
        return leader

    def left(self, job_id: str) -> list[int]:
        return sorted(process.pid for process in self.successResultOf(self.scan.remaining(job_id)))

    def leftovers(self) -> set[int]:
        return {pid for pid in self.table.alive() if pid >= 300}

    def test_nothing(self) -> None:
        """When there are only job leaders, two lists tell that nothing is left, and no process is read."""
        self.table.reads.clear()
        self.table.lists = 0
        self.assertEqual([], self.left("a"))
        self.assertEqual((2, []), (self.table.lists, self.table.reads))

    def test_left(self) -> None:
        """Orphans and everything below them belong to their own job."""
        self.table.add(300, session=100)
        self.table.add(301, parent=300)
        self.table.add(302, tag="b")
        self.assertEqual([300, 301], self.left("a"))
        self.assertEqual([302], self.left("b"))

    def test_launching(self) -> None:
        """What a job starts before its launch is known to have succeeded is its own, and not another's leftover."""
        for leader in (self.a, self.b):
            self.scan.exited(leader)
        self.table.add(300)
        self.assertEqual([300], self.left("a"))  # by elimination
        for now, left in ((600, [300]), (400, [])):  # 300 was born at 500
            self.table.ticks = now
            leader = self.scan.expect("c")
            self.assertEqual(left, self.left("a"))
            self.table.add(301, tag="c")
            self.assertEqual([301], self.left("c"))
            self.scan.leave(leader)
        self.a_job("c", 400)
        self.assertEqual([301], self.left("c"))

    def test_closed(self) -> None:
        """After close() nothing is answered: a cleanup of what cannot be ended asks on."""
        self.table.add(300, tag="a")
        self.scan.close()
        self.assertNoResult(self.scan.remaining("a"))
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_zombies(self) -> None:
        """The shim reaps orphans that have exited, and nothing of them is left."""
        self.table.add(300, zombie=True, tag="a")
        self.table.add(301, tag="a")
        self.assertEqual([301], self.left("a"))

    def test_exits_before_it_is_read(self) -> None:
        """A process that forks and exits between two reads is not the end of its job: its child is found."""
        self.table.add(300, tag="a")
        self.table.when_read[300] = lambda: self.forks(300, 301)
        self.assertEqual([301], self.left("a"))

    def test_exits_before_its_tags_are_read(self) -> None:
        """Nor is one that exits when it is read and before it is known to which job it belongs."""
        self.table.add(300, tag="a")
        self.table.when_tags_read[300] = lambda: self.forks(300, 301)
        self.assertEqual([301], self.left("a"))

    def forks(self, pid: int, child: int) -> None:
        """The next link of a chain: the child is an orphan, the parent a zombie."""
        self.table.add(child, tag=self.table.environment[pid])
        self.table.exits(pid, zombie=True)

    def test_untagged(self) -> None:
        """An orphan without a tag is read twice; its child is read like any process."""
        self.table.add(300)
        for _ in range(6):
            self.assertEqual([], self.left("a"))
            self.clock.advance(0.5)
        self.assertEqual([300, 300], self.table.tag_reads)
        self.table.add(301, tag="a")
        self.table.exits(300, zombie=True)
        self.assertEqual([301], self.left("a"))

    def test_incomplete(self) -> None:
        """While every pass misses a process no job is told that nothing is left; what is found is told at once."""
        self.table.add(300, tag="b")
        self.table.ghosts = iter(range(1000, 2000))
        answer = self.scan.remaining("a")
        self.assertEqual([300], self.left("b"))
        for _ in range(5):
            self.clock.advance(1)
            self.assertNoResult(answer)
        self.table.ghosts = iter(())
        self.clock.advance(1)
        self.assertEqual([], self.successResultOf(answer))

    def test_share(self) -> None:
        """A scan that took long is not repeated at once: the next one answers all that ask meanwhile."""
        scans: list[float] = []

        def slowly() -> None:
            scans.append(self.clock.seconds())
            self.clock.rightNow += 0.005  # there are two lists

        self.table.when_listed = slowly
        self.assertEqual([], self.left("a"))
        waiting = [self.scan.remaining("a"), self.scan.remaining("b")]
        self.clock.advance(0.09)
        for answer in waiting:
            self.assertNoResult(answer)
        self.clock.advance(0.02)
        for answer in waiting:
            self.assertEqual([], self.successResultOf(answer))
        self.assertEqual(4, len(scans))

    def test_read_once(self) -> None:
        """Tags are read once per process, and again without one, or when another process has that pid."""
        self.table.add(300, tag="a")
        self.table.add(301)
        for _ in range(3):
            self.assertEqual([300], self.left("a"))
        self.assertEqual([301, 300, 301, 301], self.table.tag_reads)
        self.table.add(300, tag="b", start=501)
        self.assertEqual(([], [300]), (self.left("a"), self.left("b")))

    def test_newest_first(self) -> None:
        """
        The newest link of a chain of forks is read first, and its tags at once: that it has gone when all are read
        does not make the end of another job uncertain.
        """
        self.a_job("c", 400)
        self.table.add(300, tag="a")
        self.table.add(301, tag="b")
        self.table.when_read[300] = lambda: self.table.exits(301, zombie=True)
        self.table.lists = 0
        self.assertEqual([], self.left("c"))
        self.assertEqual(2, self.table.lists)

    def test_read_again(self) -> None:
        """A tag of a job that is over says nothing; then the other tags of the process are read."""
        self.table.add(300, tag="a")
        self.assertEqual([300], self.left("a"))
        self.scan.leave(self.a)
        self.table.cgroups[300] = "/worker/b"
        self.assertEqual([300], self.left("b"))

    def test_cannot_read(self) -> None:
        """When nothing can be read the answer fails, and no process is taken for gone."""
        self.table.problem = OSError(24, "Too many open files")
        self.failureResultOf(self.scan.remaining("a"), OSError)

    def test_kill(self) -> None:
        """All are stopped before the first is killed; other jobs' processes stay untouched."""
        first = self.table.add(300, tag="a")
        self.table.add(301, tag="b")
        self.table.add(302, tag="a")
        killed = self.scan.kill("a", [first])
        self.assertEqual([(300, SIGSTOP), (302, SIGSTOP), (300, SIGKILL), (302, SIGKILL)], self.table.signals)
        self.assertEqual([300, 302], [process.pid for process in killed])

    def test_kill_a_chain(self) -> None:
        """A process that forks before it is stopped is followed from link to link until one is stopped."""
        links = [301, 302, 303]

        def too_late(process: Process, number: int) -> bool:
            if number == SIGSTOP and links:
                self.forks(process.pid, links.pop(0))
                return True
            return False

        self.table.on_signal = too_late
        self.scan.kill("a", [self.table.add(300, tag="a")])
        self.assertEqual(set(), self.leftovers())
        self.assertIn((303, SIGSTOP), self.table.signals)

    def test_kill_below_untagged(self) -> None:
        """What is below a process that was known to be untagged is killed with it."""
        orphan = self.table.add(300)
        for _ in range(3):
            self.left("a")
            self.clock.advance(0.5)
        self.table.add(301, parent=300)
        self.scan.kill("a", [orphan])
        self.assertEqual(set(), self.leftovers())

    def test_kill_all(self) -> None:
        """At the end every orphan is killed, whichever job it belongs to; no job leader is."""
        self.table.add(300)
        self.table.add(301, parent=300, tag="nested")
        self.scan.kill_all()
        self.assertEqual({100, 200}, self.table.alive())

    def test_kill_all_cannot_read(self) -> None:
        """When there is no descriptor to read with at the end, it is tried again."""
        self.table.add(300)
        self.table.problem = OSError(24, "Too many open files")

        def passes() -> None:
            self.table.problem = None

        self.while_asleep = passes
        self.scan.kill_all()
        self.assertEqual({100, 200}, self.table.alive())

    def test_keep(self) -> None:
        """What a job may leave behind is not attributed to another job that ran at its birth, and it runs on."""
        self.scan.exited(self.a)
        self.scan.keep(self.a)
        self.table.exits(100)
        self.table.add(300, tag="a")
        self.table.add(301, parent=300)
        self.table.add(302, session=100)
        self.table.add(303, tag="b")
        self.scan.exited(self.b)
        self.assertEqual([303], self.left("b"))
        self.scan.kill_all(lambda job_id: job_id == "a")
        self.assertEqual({200, 300, 301, 302}, self.table.alive())

    def test_pid_of_a_kept_job(self) -> None:
        """A session belongs to the job whose leader has that pid now, not to a kept one whose leader had it before."""
        self.scan.exited(self.a)
        self.scan.keep(self.a)
        self.table.add(300, tag="a")
        self.a_job("c", 100)
        self.table.add(301, session=100)
        self.scan.kill_all(lambda job_id: job_id == "a")
        self.assertEqual({300}, self.leftovers())

    def test_kept_by_an_earlier_worker(self) -> None:
        """What is kept of an earlier worker's job is told by its tag, or by its session when the shim names the job."""
        self.scan.keep_earlier("named", 90)
        self.table.add(300, tag="before")
        self.table.add(301, tag="other")
        self.table.add(302, session=90)
        self.scan.kill_all(lambda job_id: job_id == "before")
        self.assertEqual({100, 200, 300, 302}, self.table.alive())

    def test_nothing_is_kept_any_more(self) -> None:
        """When nothing is left of a job whose leftovers are kept, it is forgotten. Its pid may be given to another."""
        self.scan.exited(self.a)
        self.scan.keep(self.a)
        self.table.add(300, tag="a")
        self.a_job("c", 100)
        self.table.add(301, session=100)
        self.clock.advance(1)
        self.assertEqual([301], self.left("c"))
        self.table.exits(300)
        self.clock.advance(1)
        self.assertEqual([301], self.left("c"))
        self.table.add(302, tag="a")
        self.scan.kill_all()
        self.assertNotIn(302, self.table.alive())
