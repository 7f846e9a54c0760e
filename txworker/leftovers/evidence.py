"""Whether a process is of a dead worker's jobs, by what was written down and what it shows. In doubt it is not."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from txworker.leftovers.owners import Sign
from txworker.leftovers.tags import tag_of
from txworker.linux.procfs import Process

MOMENT_TICKS = 60 * os.sysconf("SC_CLK_TCK")
"""Between the start of a job's process and the writing down of when that was: much more than it ever takes."""

_INIT = 1


@dataclass(frozen=True)
class DeadJob:
    """
    A job that ran when its worker died.

    pid is of its own process, which was started when `start` was written down, or a moment before that (in ticks, as
    procfs.Process.start); None when they are not known.
    """

    job_id: str
    pid: int | None
    start: int | None


class Evidence:
    """
    Decides whose a process is; pure, but it remembers what was certain once.

    known_mark(job_id) says whether a mark that is none of jobs' is one of the dead worker's all the same.
    alive_until_ticks is the last moment at which that worker is known to have lived: until then it kept every job's
    process from being waited for, so that none of their numbers was given away.
    """

    def __init__(self, jobs: Sequence[DeadJob], known_mark: Callable[[str], bool], alive_until_ticks: int) -> None:
        starts = [job.start for job in jobs if job.start is not None]
        self.oldest = min(starts, default=0) - MOMENT_TICKS if len(starts) == len(jobs) else 0
        self._alive_until = max([alive_until_ticks, *starts])
        self._signs: set[Sign] = {job.job_id for job in jobs}
        self._signs.update(tag_of(job.job_id) for job in jobs)
        self._known_mark = known_mark
        bounds = {job.pid: job.start for job in jobs if job.pid is not None}
        self._mains = {pid: self._alive_until if start is None else start for pid, start in bounds.items()}
        self._sessions: set[int] = set()
        self._certain: set[tuple[int, int]] = set()

    def learn_sessions(self, everybody: Iterable[Process]) -> None:
        """
        Which sessions are certainly a job's, from all processes there are.

        While the number of a job's process is a session's, the kernel gives it to nobody. So the session is the job's
        when its leader is; or, with the leader gone, when a member was born before the number could be given away.
        """
        oldest: dict[int, int] = {}
        leaders: dict[int, int] = {}
        for process in everybody:
            oldest[process.session] = min(process.start, oldest.get(process.session, process.start))
            leaders[process.pid] = process.start
        for pid, latest in self._mains.items():
            leader = leaders.get(pid)
            if leader is None:
                if oldest.get(pid, self._alive_until + 1) <= self._alive_until:
                    self._sessions.add(pid)
            elif leader <= latest:  # it had that number then, and nobody else did
                self._sessions.add(pid)
            else:
                self._sessions.discard(pid)

    def belonging(
        self, processes: Collection[Process], signs: Callable[[Process], Iterable[Sign]], spared: Collection[int]
    ) -> list[Process]:
        """
        Those that are of a job: by session, brand or mark, or by descent from one of these; never one that is spared.

        signs(process), its brand and its mark, is asked only where nothing else tells, and never of a kernel thread.
        Who belonged once, does.
        """
        able = [process for process in processes if process.session and process.pid != _INIT]  # kernel threads: 0
        found = {
            process.pid: process for process in able if process.pid not in spared and self._is_certain(process, signs)
        }
        children: dict[int, list[Process]] = {}
        for process in able:
            children.setdefault(process.parent, []).append(process)
        queue = list(found.values())
        while queue:
            new = [
                child
                for child in children.get(queue.pop().pid, ())
                if child.pid not in found and child.pid not in spared
            ]
            found.update((child.pid, child) for child in new)
            queue += new
        self._certain.update((process.pid, process.start) for process in found.values())
        return list(found.values())

    def carries(self, process: Process, signs: Callable[[Process], Iterable[Sign]]) -> bool:
        """It has the brand or the mark of a job, and so belongs."""
        if any(sign in self._signs or (isinstance(sign, str) and self._known_mark(sign)) for sign in signs(process)):
            self._certain.add((process.pid, process.start))
            return True
        return False

    def _is_certain(self, process: Process, signs: Callable[[Process], Iterable[Sign]]) -> bool:
        if (process.pid, process.start) in self._certain or process.session in self._sessions:
            return True
        if process.start <= self._mains.get(process.pid, -1):
            return True
        if process.start < self.oldest:
            return False
        return self.carries(process, signs)


def family(own: int, everybody: Iterable[Process]) -> set[int]:
    """That process, all it descends from, and all that descend from it."""
    parents = {process.pid: process.parent for process in everybody}
    ancestors = {own}
    above = own
    while (above := parents.get(above, 0)) and above not in ancestors:
        ancestors.add(above)
    found = set(ancestors)
    below = {own}
    while below:
        found |= below
        below = {pid for pid, parent in parents.items() if parent in below and pid not in found}
    return found
