"""
The scan where there is no shim: what is left of a job is found among all processes of the machine, by its session, by
its tags, and by descent from these.

Without a subreaper orphans become children of init. An orphan that has another session, another environment and another
limit than its job is not found. recorded_jobs.py decides, as after a loss.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Container

from twisted.internet.defer import Deferred, execute

from txworker.leftovers.attribution import JobLeader
from txworker.leftovers.job_processes import LeftoverScan
from txworker.leftovers.kill import Killer
from txworker.leftovers.recorded_jobs import RECORDING_TICKS, RecordedJob, RecordedJobs
from txworker.leftovers.tags import Tag, inherited_tags
from txworker.linux.procfs import Process, ProcessTable

_ATTEMPTS = 5
"""After the first pass over all processes, how many may follow over new ones while some exit before they are read."""


class ProcessTableScan(LeftoverScan):
    """The LeftoverScan where there is no shim. Each scan reads every process of the machine. Reactor thread."""

    def __init__(self, table: ProcessTable | None = None, killer: Killer | None = None) -> None:
        self._table = table = table or ProcessTable()
        self._killer = killer or Killer(table)
        self._leaders: dict[str, JobLeader] = {}
        self._exited: dict[str, RecordedJobs] = {}
        self._tags: dict[tuple[int, int], tuple[Tag, ...]] = {}
        self._closed = False

    def expect(self, job_id: str) -> JobLeader:
        """As LeftoverScan. remaining() and kill() know the job only after enter()."""
        return JobLeader(job_id, None, lambda: 0)

    def enter(self, leader: JobLeader, pid: int) -> None:
        """As LeftoverScan. The leader counts as started now, because /proc does not tell if it has exited already."""
        now = self._table.now()
        leader.pid, leader.start = pid, lambda: now
        self._leaders[leader.job_id] = leader

    def exited(self, leader: JobLeader) -> None:
        """
        As LeftoverScan. The kernel may reuse the pid from now on, so only a process that was born before proves that
        the session with that id is the job's.
        """
        self._exited[leader.job_id] = self._recorded(leader)

    def leave(self, leader: JobLeader) -> None:
        """As LeftoverScan. remaining() and kill() do not know the job any more."""
        self._leaders.pop(leader.job_id, None)
        self._exited.pop(leader.job_id, None)

    def keep(self, leader: JobLeader) -> None:
        """As leave(): nothing is attributed by elimination here, so no scan takes what runs on for another job's."""
        self.leave(leader)

    def keep_earlier(self, job_id: str, pid: int) -> None:
        """As LeftoverScan. Nothing has to be remembered, for the same reason as in keep()."""

    def remaining(self, job_id: str) -> Deferred[list[Process]]:
        """As LeftoverScan, but always at once: blocks while every process of the machine is read."""
        return Deferred() if self._closed else execute(self._scan, job_id)

    def kill(self, job_id: str, found: list[Process]) -> list[Process]:
        """As LeftoverScan. Blocks for KILL_SECONDS (kill.py) and one more look at all of /proc at most."""
        return self._killer.kill(
            found, lambda skipped: self._read_all(skipped)[0], lambda processes: self._members(job_id, processes)
        )

    def close(self) -> None:
        """As LeftoverScan. No answer is ever pending."""
        self._closed = True
        self._leaders.clear()
        self._exited.clear()

    def kill_all(self, is_kept: Callable[[str], bool] = lambda job_id: False) -> None:
        """
        KILL what is left of all jobs that are not over; so their leftovers are not kept. Blocks until all are
        gone, two seconds at most.
        """

        def kill_once() -> bool:
            killed = [self.kill(job_id, []) for job_id in self._leaders]
            return any(killed)

        self._killer.until_none_is_left(kill_once)

    def _scan(self, job_id: str) -> list[Process]:
        self._tags.clear()
        found, missed = self._read_all(())
        for _ in range(_ATTEMPTS):
            if not missed:
                break
            new, missed = self._read_all({process.pid for process in found})
            found += new
        return self._members(job_id, found)

    def _read_all(self, skipped: Container[int]) -> tuple[list[Process], bool]:
        """All processes but those, the newest first, with their tags; and whether one has gone before it was read."""
        found, missed = [], False
        for pid in sorted(self._table.pids(), reverse=True):
            if pid in skipped:
                continue
            process = self._table.read(pid)
            if process is None:
                missed = True
            else:
                self._read_tags(process)
                found.append(process)
        return found, missed

    def _read_tags(self, process: Process) -> None:
        """Now, because a moment later the process may be gone; unless it is too old to belong to any job."""
        if process.start >= min((job.start() for job in self._leaders.values()), default=0) - RECORDING_TICKS:
            self._tags[process.pid, process.start] = tuple(inherited_tags(process.pid, self._table))

    def _members(self, job_id: str, processes: list[Process]) -> list[Process]:
        jobs = self._exited.get(job_id) or self._recorded(self._leaders[job_id])
        jobs.learn_sessions(processes)
        spared = {os.getpid(), *(leader.pid or 0 for leader in self._leaders.values())}  # the leaders' runs end them
        members = jobs.members(processes, lambda process: self._tags.get((process.pid, process.start), ()), spared)
        return [process for process in members if not process.zombie]

    def _recorded(self, leader: JobLeader) -> RecordedJobs:
        recorded = RecordedJob(leader.job_id, leader.pid, leader.start())
        return RecordedJobs([recorded], lambda job_id: False, self._table.now())
