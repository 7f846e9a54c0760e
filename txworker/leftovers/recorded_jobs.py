"""
To which jobs processes belong where no shim tells: by what was recorded of each job leader, and by their tags.

Used for lost jobs (recovery.py) and for jobs without a shim (process_table_scan.py). In doubt a process belongs to no
job.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from txworker.leftovers.tags import Tag, rlimit_tag_for
from txworker.linux.procfs import Process

RECORDING_TICKS = 60 * os.sysconf("SC_CLK_TCK")
"""Between the start of a job leader and the recording of its start time: much more than it ever takes."""

_INIT = 1


@dataclass(frozen=True)
class RecordedJob:
    """
    A job that ran when its shim or its worker was lost, or that runs without a shim.

    pid is that of the job leader, which started at `start` (as Process.start) or shortly before; None: unknown.
    """

    job_id: str
    pid: int | None
    start: int | None


class RecordedJobs:
    """
    Pure decisions, but what was certain once is remembered.

    is_lost_job(job_id) says whether an environment tag counts that is none of `jobs`. alive_until_ticks is the last
    moment at which the parent of the job leaders is known to have run: until then it had reaped none of them, so none
    of their pids was given to another process.
    """

    def __init__(self, jobs: Sequence[RecordedJob], is_lost_job: Callable[[str], bool], alive_until_ticks: int) -> None:
        starts = [job.start for job in jobs if job.start is not None]
        self._oldest = min(starts, default=0) - RECORDING_TICKS if len(starts) == len(jobs) else 0
        self._alive_until = max([alive_until_ticks, *starts])
        self._tags: set[Tag] = {tag for job in jobs for tag in (job.job_id, rlimit_tag_for(job.job_id))}
        self._is_lost_job = is_lost_job
        starts_by_pid = {job.pid: job.start for job in jobs if job.pid is not None}
        self._latest_starts = {
            pid: self._alive_until if start is None else start for pid, start in starts_by_pid.items()
        }
        self._sessions: set[int] = set()
        self._certain: set[tuple[int, int]] = set()

    def learn_sessions(self, processes: Iterable[Process]) -> None:
        """
        Find out which sessions are certainly a job's, from all processes of the machine.

        As long as a session has the pid of a job leader as its id, the kernel gives that pid to no other process. So
        the session is the job's when its leader is; or, when the leader has gone, when a member was born before the
        pid could be given to another process.
        """
        oldest: dict[int, int] = {}
        leaders: dict[int, int] = {}
        for process in processes:
            oldest[process.session] = min(process.start, oldest.get(process.session, process.start))
            leaders[process.pid] = process.start
        for pid, latest in self._latest_starts.items():
            start = leaders.get(pid)
            if start is None:
                if oldest.get(pid, self._alive_until + 1) <= self._alive_until:
                    self._sessions.add(pid)
            elif start <= latest:  # the process with that pid is the job leader
                self._sessions.add(pid)
            else:
                self._sessions.discard(pid)

    def members(
        self, processes: Collection[Process], tags: Callable[[Process], Iterable[Tag]], spared: Collection[int]
    ) -> list[Process]:
        """
        Those that belong to a job: by session, by tag, or by descent from one of these; none with a pid that is spared.

        tags(process) is called only where nothing else tells, and never for a kernel thread. A process that belonged
        to a job once is a member for good.
        """
        candidates = [process for process in processes if process.session and process.pid != _INIT]  # 0: kernel threads
        found = {
            process.pid: process
            for process in candidates
            if process.pid not in spared and self._is_certain(process, tags)
        }
        children: dict[int, list[Process]] = {}
        for process in candidates:
            children.setdefault(process.parent, []).append(process)
        queue = list(found.values())
        for process in queue:
            for child in children.get(process.pid, ()):
                if child.pid not in found and child.pid not in spared:
                    found[child.pid] = child
                    queue.append(child)
        self._certain.update((process.pid, process.start) for process in queue)
        return queue

    def is_tagged(self, process: Process, tags: Callable[[Process], Iterable[Tag]]) -> bool:
        """The process carries a tag of a job, and so belongs to it."""
        if any(tag in self._tags or (isinstance(tag, str) and self._is_lost_job(tag)) for tag in tags(process)):
            self._certain.add((process.pid, process.start))
            return True
        return False

    def _is_certain(self, process: Process, tags: Callable[[Process], Iterable[Tag]]) -> bool:
        if (process.pid, process.start) in self._certain or process.session in self._sessions:
            return True
        if process.start <= self._latest_starts.get(process.pid, -1):
            return True
        return process.start >= self._oldest and self.is_tagged(process, tags)


def ancestors_and_descendants(pid: int, processes: Iterable[Process]) -> set[int]:
    """
    The pids of that process, of all that it descends from, and of all that descend from it.

    Of process 1 only its own: it adopts orphans, so descent from it tells nothing.
    """
    if pid == _INIT:
        return {pid}
    parents = {process.pid: process.parent for process in processes}
    found = {pid}
    above = pid
    while (above := parents.get(above, 0)) and above not in found:
        found.add(above)
    below = {pid}
    while below:
        found |= below
        below = {child for child, parent in parents.items() if parent in below and child not in found}
    return found
