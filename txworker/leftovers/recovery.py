"""
Recovery: processes of lost jobs are found and killed, after their shim or their worker without a shim was lost.

They do not descend from this worker, so there is no descent from the shim to go by, as in scan.py; only what was
recorded before, and what /proc shows: recorded_jobs.py decides.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from signal import SIGKILL, SIGSTOP

from txworker.base.logs import Logger
from txworker.leftovers.recorded_jobs import RecordedJob, RecordedJobs, ancestors_and_descendants
from txworker.leftovers.tags import Tag, inherited_tags
from txworker.linux.procfs import Process, ProcessTable

_SECONDS = 4.0
"""In all. Only a process that the kernel cannot end, or that this worker may not signal, runs longer than that."""

_PASSES = 500
"""Over new processes: one pass catches a job that forks all the time; on a busy machine there are always new ones."""

_QUIET_SECONDS = 0.2
"""
How long passes may find other processes only: these come and go all the time, which must not cost seconds. CPU time of
this thread, because on a busy machine it may get no more than a pass in that time by the clock.
"""

_WATCH_SECONDS = 0.01
"""How long the newest process is watched for the next link of a chain of forks, between two passes."""

_PAUSE = 0.005

_log = Logger()


def end_lost_jobs(
    jobs: Sequence[RecordedJob],
    is_lost_job: Callable[[str], bool],
    alive_until_ticks: int,
    survivors: list[Process] | None = None,
    limit_seconds: float = _SECONDS,
    table: ProcessTable | None = None,
) -> int:
    """
    Kill what still runs of those jobs and return how many processes that were. Those that could not be ended are added
    to `survivors`. is_lost_job and alive_until_ticks as in RecordedJobs.

    Blocks: some milliseconds when nothing is left, a few seconds at most. All are stopped before the first is killed,
    so that none starts another unseen.
    """
    table = table or ProcessTable()
    search = _Search(RecordedJobs(jobs, is_lost_job, alive_until_ticks), table)
    deadline = time.monotonic() + limit_seconds
    killed = False
    while left := search.stop_all():
        for process in left:
            table.send(process, SIGKILL)
        may_signal = any(table.may_signal(process.pid) for process in left)
        if killed and (not may_signal or time.monotonic() > deadline):  # the first pass alone may take that long
            _log.error("Processes of lost jobs could not be ended: {pids}.", pids=[process.pid for process in left])
            if survivors is not None:
                survivors += left
            break
        killed = True
        time.sleep(_PAUSE)
    return len(search.stopped) - len(left)


class _Search:
    """Searches the process table. `stopped` has pid and start of every process that was found."""

    def __init__(self, jobs: RecordedJobs, table: ProcessTable) -> None:
        self.stopped: set[tuple[int, int]] = set()
        self._jobs = jobs
        self._table = table
        self._spared: set[int] = set()

    def stop_all(self) -> list[Process]:
        """Stop what belongs to a job until nothing new appears; returns all that are there and are not zombies."""
        known: dict[int, Process] = {}
        found: dict[int, Process] = {}
        quiet_until, some_exited = math.inf, False
        for number in range(_PASSES):
            fresh, missed = self._read_new(known)
            if time.thread_time() > quiet_until or (not fresh and not missed and not some_exited):
                break
            if number == 0:
                self._jobs.learn_sessions(fresh)
            self._spared = ancestors_and_descendants(os.getpid(), known.values())
            stopped = self._stop_members(fresh, found)
            # a process that exits before its tags are read may leave a successor that was not in the list
            some_exited = any(
                process.zombie or not self._table.is_same(process) for process in fresh if process.pid not in found
            )
            caught = (some_exited or missed) and self._watch_newest()
            if number == 0 or caught or stopped:
                quiet_until = time.thread_time() + _QUIET_SECONDS
        return list(found.values())

    def _stop_members(self, fresh: list[Process], found: dict[int, Process]) -> bool:
        """Stop those of the new processes that belong to a job and add them to `found`; returns whether any does."""
        running = [process for process in fresh if not process.zombie]  # a chain of forks leaves thousands of zombies
        members = self._jobs.members([*found.values(), *running], self._tags, self._spared)
        new = [process for process in members if process.pid not in found]
        for process in new:
            self._table.send(process, SIGSTOP)
            self.stopped.add((process.pid, process.start))
            found[process.pid] = process
        return bool(new)

    def _watch_newest(self) -> bool:
        """
        Stop the next process that is born and belongs to a job, as soon as it is seen; returns whether there was one.

        While the whole of /proc is read, a chain of forks gets several links ahead. To read the newest process alone
        takes less time than a link lives.
        """
        newest = 0
        until = time.monotonic() + _WATCH_SECONDS
        while time.monotonic() < until:
            before, newest = newest, self._table.newest_pid()
            process = self._table.read(newest) if newest != before else None
            if process is not None and process.pid not in self._spared and self._jobs.is_tagged(process, self._tags):
                self._table.send(process, SIGSTOP)
                return True
        return False

    def _read_new(self, known: dict[int, Process]) -> tuple[list[Process], bool]:
        """Read the processes that are not known yet and add them; and whether one has gone before it was read."""
        fresh, missed = [], False
        for pid in self._table.pids():
            if pid not in known:
                process = self._table.read(pid)
                if process is not None:
                    known[pid] = process
                    fresh.append(process)
                else:
                    missed = True
        return fresh, missed

    def _tags(self, process: Process) -> Iterator[Tag]:
        return inherited_tags(process.pid, self._table)
