"""What a cleanup does to one job's processes, found by a scan and in a made-up cgroup."""

from __future__ import annotations

import os
from pathlib import Path
from signal import SIGCONT, SIGTERM

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.support.process_table import FakeProcessTable
from txworker.leftovers.job_processes import JobProcesses, Remaining
from txworker.leftovers.scan import DescendantScan
from txworker.linux.cgroup import JobCgroup

SHIM = 50


class JobProcessesTests(SynchronousTestCase):
    """Job "a", whose leader is 100."""

    def setUp(self) -> None:
        self.table = FakeProcessTable(reaper=SHIM)
        self.scan = DescendantScan(Clock(), SHIM, SHIM + 1, self.table)
        self.scan.enter(self.scan.expect("a"), 100)
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.found = self.table.add(300, tag="a")

    def processes(self, *in_cgroup: int) -> JobProcesses:
        """With a cgroup if there is a process in it."""
        if in_cgroup:
            (self.directory / "cgroup.procs").write_text(" ".join(map(str, in_cgroup)))
            (self.directory / "cgroup.kill").touch()
        cgroup = JobCgroup(str(self.directory)) if in_cgroup else None
        return JobProcesses("a", self.scan, cgroup, self.table)

    def killed_cgroup(self) -> bool:
        return (self.directory / "cgroup.kill").read_text() == "1"

    def test_remaining(self) -> None:
        """What the scan finds remains."""
        self.assertEqual(Remaining([self.found]), self.successResultOf(self.processes().remaining()))

    def test_remaining_in_cgroup(self) -> None:
        """What is in the cgroup remains, too, each once, without zombies; a cgroup that is not empty says so."""
        other = self.table.add(301, parent=1)
        self.table.add(302, parent=1, zombie=True)
        remaining = self.successResultOf(self.processes(300, 301, 302, 303).remaining())
        self.assertEqual(Remaining([self.found, other], more=True), remaining)

    def test_term(self) -> None:
        """A stopped process is continued, or it would not handle TERM."""
        self.processes().term(self.found)
        self.assertEqual([(300, SIGTERM), (300, SIGCONT)], self.table.signals)

    def test_kill(self) -> None:
        """The cgroup is killed, and what the scan finds."""
        processes = self.processes(300)
        self.assertEqual([self.found], processes.kill([]))
        self.assertEqual((True, False), (self.killed_cgroup(), 300 in self.table.alive()))

    def test_kill_cgroup(self) -> None:
        """The cgroup is killed though nothing can be read."""
        self.table.problem = OSError(24, "Too many open files")
        self.processes(300).kill_cgroup()
        self.assertTrue(self.killed_cgroup())

    def test_close(self) -> None:
        """An empty cgroup is removed."""
        processes = self.processes(300)
        for name in os.listdir(self.directory):
            (self.directory / name).unlink()
        processes.close()
        self.assertFalse(self.directory.exists())
