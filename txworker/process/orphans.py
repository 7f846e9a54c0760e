"""
At start, after a crash: what of a dead worker's jobs still runs is found and killed.

They are no descendants of ours, so there is no ancestry to go by as in census.py; only what was written down before
the crash, and what /proc shows. In doubt a process is not the job's.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from signal import SIGKILL, SIGSTOP

from twisted.logger import Logger

from txworker.process.brand import brand
from txworker.process.owners import Sign
from txworker.process.procfs import Process, brand_of, is_still, mark_of, read_process, send

_SECONDS = 4.0
"""In all. Longer than that only a process lives that the kernel cannot end, or that is not ours to signal."""

_PASSES = 500
"""Over the processes that are new: a job that forks without pause is caught in one, a busy machine never ends."""

MOMENT_TICKS = 60 * os.sysconf("SC_CLK_TCK")
"""Between the start of a job's process and the writing down of when that was: much more than it ever takes."""

_QUIET_SECONDS = 0.2
"""Of passes that find nobody of a job: processes of others, which come and go all the time, must not cost seconds."""

_WAIT_SECONDS = 0.01
"""For the next link of a chain, between two looks at everybody."""

_PAUSE = 0.005
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
        self._signs.update(brand(job.job_id) for job in jobs)
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


def end_orphans(jobs: Sequence[DeadJob], known_mark: Callable[[str], bool], alive_until_ticks: int) -> int:
    """
    Kill what still runs of those jobs; how many that were. Before any job of our own runs.

    Blocks, some milliseconds when there is nobody, a few seconds at most. All are stopped before the first is
    killed, so that none can start another unseen.
    """
    evidence = Evidence(jobs, known_mark, alive_until_ticks)
    hunt = _Hunt(evidence)
    deadline = time.monotonic() + _SECONDS
    killed = False
    while left := hunt.stop_everybody():
        for process in left:
            send(process, SIGKILL)
        if killed and time.monotonic() > deadline:  # on a busy machine the first look alone may take so long
            pids = [process.pid for process in left]
            Logger().error("Of jobs that a dead worker left, {pids} could not be ended.", pids=pids)
            break
        killed = True
        time.sleep(_PAUSE)
    return len(hunt.stopped) - len(left)


class _Hunt:
    """Looks through /proc. `stopped` are pid and start of whoever was found."""

    def __init__(self, evidence: Evidence) -> None:
        self.stopped: set[tuple[int, int]] = set()
        self._evidence = evidence
        self._spared: set[int] = set()

    def stop_everybody(self) -> list[Process]:
        """Stop who belongs to a job, until nobody new appears; all that are there and are not zombies."""
        known: dict[int, Process] = {}
        found: dict[int, Process] = {}
        quiet_until, slipped = math.inf, False
        for number in range(_PASSES):
            fresh, missed = _fresh(known)
            if time.monotonic() > quiet_until or (not fresh and not missed and not slipped):
                break
            before = len(found)
            if number == 0:
                self._evidence.learn_sessions(fresh)
            self._spared = family(os.getpid(), known.values())
            living = [process for process in fresh if not process.zombie]  # a chain may leave thousands that are not
            for process in self._evidence.belonging([*found.values(), *living], _signs, self._spared):
                if process.pid not in found:
                    send(process, SIGSTOP)
                    self.stopped.add((process.pid, process.start))
                    found[process.pid] = process
            # who went before it was known whose it was may have left a successor that was not in the list
            slipped = any(process.zombie or not is_still(process) for process in fresh if process.pid not in found)
            caught = (slipped or missed) and self._lie_in_wait()
            if number == 0 or caught or len(found) > before:
                quiet_until = time.monotonic() + _QUIET_SECONDS
        return list(found.values())

    def _lie_in_wait(self) -> bool:
        """
        Stop at sight who is born meanwhile, if it belongs; whether anybody was.

        While all of /proc is looked through, a chain of forks gets several links ahead; to look at the newest process
        alone takes less than one link lives.
        """
        newest = 0
        until = time.monotonic() + _WAIT_SECONDS
        with open("/proc/loadavg", "rb", buffering=0) as load:
            while time.monotonic() < until:
                before, newest = newest, int(os.pread(load.fileno(), 100, 0).split()[-1])  # proc_loadavg(5)
                process = read_process(newest) if newest != before else None
                if process is not None and process.pid not in self._spared and self._evidence.carries(process, _signs):
                    send(process, SIGSTOP)
                    return True
        return False


def _signs(process: Process) -> Iterator[Sign]:
    yield brand_of(process.pid)
    mark = mark_of(process.pid)
    if mark is not None:
        yield mark


def _fresh(known: dict[int, Process]) -> tuple[list[Process], bool]:
    """Whoever is in /proc and not yet known; and whether somebody went before he was looked at."""
    fresh, missed = [], False
    for pid in [int(name) for name in os.listdir("/proc") if name.isdecimal()]:
        if pid not in known:
            process = read_process(pid)
            if process is not None:
                known[pid] = process
                fresh.append(process)
            else:
                missed = True
    return fresh, missed
