"""What jobs use, read from a made-up /proc and made-up cgroups."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from txworker.jobs.errors import CallerGone, OutOfResources
from txworker.jobs.live_usage import LiveUsage, RunningProcess
from txworker.leftovers.usage import MAX_SECONDS, LiveUsageReader
from txworker.linux.process_usage import process_usage

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


class UsageTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.root = Path(self.mktemp())
        self.root.mkdir()
        (self.root / "self").mkdir()
        self.now = 0.0
        self.reader = LiveUsageReader(str(self.root), lambda: self.now)

    def add(
        self,
        pid: int,
        parent: int,
        session: int,
        pages: int = 1,
        times: tuple[int, int, int, int] = (1, 0, 0, 0),
        state: str = "S",
    ) -> None:
        """A process; times: user, system, and those of children that it waited for, in ticks."""
        user, system, waited_user, waited_system = times
        fields = [state, parent, pid, session, *[0] * 7, user, system, waited_user, waited_system, 20, 0, 1, 0, 99]
        (self.root / str(pid)).mkdir()
        (self.root / str(pid) / "stat").write_text(f"{pid} (a) b ( c) {' '.join(map(str, fields))} 8192 {pages} 1\n")

    def a_cgroup(self, *pids: int, cpu: str = "") -> str:
        directory = Path(self.mktemp())
        (directory / "below").mkdir(parents=True)
        (directory / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids[:1]))
        (directory / "below" / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids[1:]))
        if cpu:
            (directory / "cpu.stat").write_text(cpu)
        return str(directory)

    def test_descent_and_session(self) -> None:
        """A job has its process, what descends from it, and its session, whichever process is the parent."""
        self.add(1, 0, 1, pages=100)
        self.add(10, 1, 1, pages=100)  # the shim
        self.add(20, 10, 20, pages=2, times=(TICKS, 2 * TICKS, TICKS // 2, 0))
        self.add(21, 20, 20)
        self.add(22, 21, 22)  # in a session of its own
        self.add(23, 10, 20)  # an orphan in the job's session
        self.add(24, 23, 24)
        self.add(30, 10, 30, pages=5, times=(0, 0, 0, 0))
        self.add(31, 10, 31)  # an orphan in a session of its own
        found = self.reader.read([RunningProcess("b", 30), RunningProcess("a", 20), RunningProcess("gone", 40)])
        first, second, third = found
        self.assertEqual((LiveUsage("b", 1, 5 * PAGE), LiveUsage("gone")), (first, third))
        self.assertEqual(("a", 5, 6 * PAGE, 2.0), (second.job_id, second.processes, second.rss_bytes, 2.0))
        self.assertAlmostEqual(1.5 + 4 / TICKS, second.user_cpu_seconds)
        self.assertEqual(2.0, second.system_cpu_seconds)

    def test_zombies(self) -> None:
        """A zombie is no process any more, but the time that it has used still counts."""
        self.add(20, 1, 20, pages=0, times=(TICKS, 0, 0, 0), state="Z")
        self.add(21, 20, 20, pages=3, times=(TICKS, 0, 0, 0))
        self.assertEqual([LiveUsage("a", 1, 3 * PAGE, 2.0)], self.reader.read([RunningProcess("a", 20)]))

    def test_cgroup(self) -> None:
        """With a cgroup a job has what is in it and below; the kernel's sum of time has what has exited, too."""
        self.add(20, 1, 20)
        self.add(21, 1, 21, pages=2)
        self.add(22, 1, 22, pages=4)
        self.add(23, 20, 20, pages=8)  # of another job, whatever its session
        cgroup = self.a_cgroup(20, 21, 22, 99, cpu="usage_usec 3000000\nuser_usec 2500000\nsystem_usec 500000\n")
        self.assertEqual([LiveUsage("a", 3, 7 * PAGE, 2.5, 0.5)], self.reader.read([RunningProcess("a", 20, cgroup)]))

    def test_cgroup_without_times(self) -> None:
        """Where the kernel tells no time of the cgroup, that of its processes counts; a cgroup may be gone."""
        self.add(20, 1, 20, times=(TICKS, 0, 0, 0))
        for cgroup in (self.a_cgroup(20), "/no/such/cgroup"):
            self.assertEqual([LiveUsage("a", 1, PAGE, 1.0)], self.reader.read([RunningProcess("a", 20, cgroup)]))

    def test_deep(self) -> None:
        """A long chain of forks takes no long time, and a circle, which a reused pid can make, ends."""
        for pid in range(100, 1100):
            self.add(pid, pid - 1, 7)
        self.add(5000, 5001, 7)
        self.add(5001, 5000, 7)
        found = self.reader.read([RunningProcess("a", 99), RunningProcess("b", 600)])
        self.assertEqual([0, 500], [usage.processes for usage in found])

    def test_too_long(self) -> None:
        """It is given up when it takes too long, and when its caller leaves; the next one is served."""
        self.add(20, 1, 20)
        running = [RunningProcess("a", 20)]

        def slow() -> None:
            self.now += MAX_SECONDS + 1

        def leave() -> None:
            raise CallerGone

        self.assertRaises(OutOfResources, self.reader.read, running, slow)
        self.assertRaises(CallerGone, self.reader.read, running, leave)
        self.assertEqual(1, self.reader.read(running)[0].processes)

    def test_too_many_cgroups(self) -> None:
        """A job that makes cgroups without end is no reason to look without end."""
        self.add(20, 1, 20)
        cgroup = self.a_cgroup(20, 20)

        def slow() -> None:
            self.now += MAX_SECONDS / 2 + 1

        self.assertRaises(OutOfResources, self.reader.read, [RunningProcess("a", 20, cgroup)], slow)

    def test_one_at_a_time(self) -> None:
        """While one thread reads, another waits."""
        self.add(20, 1, 20)
        running = [RunningProcess("a", 20)]
        found: list[LiveUsage] = []
        other = threading.Thread(target=lambda: found.extend(self.reader.read(running)))

        def check() -> None:
            if not other.ident:
                other.start()
                other.join(0.05)
                self.assertEqual([], found)

        self.reader.read(running, check)
        other.join(10)
        self.assertEqual(1, len(found))

    def test_unreadable(self) -> None:
        """What cannot be read for want of a descriptor is an error, and not a job without processes."""
        (self.root / "20").mkdir()
        (self.root / "20" / "stat").symlink_to("stat")  # too many levels of links
        self.assertRaises(OutOfResources, self.reader.read, [RunningProcess("a", 20)])

    def test_this_process(self) -> None:
        """The kernel's own files are read like that."""
        found = process_usage(os.getpid())
        assert found is not None
        self.assertEqual((os.getppid(), os.getsid(0), False), (found.parent, found.session, found.zombie))
        self.assertGreater(found.rss_bytes, 10 * 2**20)
        self.assertGreater(found.user_seconds, 0.05)
        self.assertIsNone(process_usage(2**22 + 1))
