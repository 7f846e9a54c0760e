"""
What is left of a job that no shim has: by its session, its tags and by descent from these, among all processes.

There is no subreaper, so an orphan hangs below init, and one that has shed all that (another session, another
environment, a limit of its own) is not found. evidence.py decides, as it does after a crash.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Container, Iterable

from twisted.internet.defer import Deferred, execute

from txworker.base.logs import Logger
from txworker.leftovers.evidence import MOMENT_TICKS, DeadJob, Evidence
from txworker.leftovers.hunt import hunt
from txworker.leftovers.orphans import signs
from txworker.leftovers.owners import Sign
from txworker.linux.procfs import Process, read_process, ticks_since_boot

_LAST_SECONDS = 2.0
_LAST_PAUSE = 0.002


_LOOKS = 5
"""After the first at all processes these are at new ones only, as long as some go before they were read."""

Seen = Callable[[Process], None]


def _now() -> int:
    return ticks_since_boot(time.clock_gettime(time.CLOCK_BOOTTIME))


def _everybody(skipped: Container[int], seen: Seen) -> tuple[list[Process], bool]:
    """
    All processes there are but those, the newest first; and whether one went before it was read.

    seen(process) is told of each as soon as it was read: a moment later it may be gone.
    """
    found, missed = [], False
    for pid in sorted(map(int, filter(str.isdecimal, os.listdir("/proc"))), reverse=True):
        if pid in skipped:
            continue
        process = read_process(pid)
        if process is None:
            missed = True
        else:
            seen(process)
            found.append(process)
    return found, missed


class Scan:
    """
    As Census (census.py). Each look reads what /proc says of every process. Reactor thread.

    everybody is as _everybody above, signs(process) gives what one carries, now() is in clock ticks since boot.
    """

    _log = Logger()

    def __init__(
        self,
        everybody: Callable[[Container[int], Seen], tuple[list[Process], bool]] = _everybody,
        signs: Callable[[Process], Iterable[Sign]] = signs,
        now: Callable[[], int] = _now,
    ) -> None:
        self._everybody = everybody
        self._signs = signs
        self._now = now
        self._jobs: dict[int, DeadJob] = {}
        self._evidence: dict[str, Evidence] = {}
        self._carried: dict[tuple[int, int], tuple[Sign, ...]] = {}

    def expect(self, job_id: str) -> int:
        """A job's own process is about to be made: nothing to do. A number to leave() with."""
        return 0

    def enter(self, pid: int, job_id: str) -> None:
        """A job's own process was started."""
        self._jobs[pid] = DeadJob(job_id, pid, self._now())

    def exited(self, pid: int) -> None:
        """A job's own process was waited for, a moment ago."""
        job = self._jobs[pid]
        self._evidence[job.job_id] = self._evidence_now(job)

    def leave(self, pid: int) -> None:
        """Nothing is left of that job, or shall be looked for."""
        job = self._jobs.pop(pid, None)
        if job is not None:
            self._evidence.pop(job.job_id, None)

    def of(self, job_id: str) -> Deferred[list[Process]]:
        """Fires with what is left of that job, at once."""
        return execute(self._look, job_id)

    def kill(self, job_id: str, found: list[Process]) -> list[Process]:
        """KILL to these and to whatever else of that job there is or appears meanwhile; all of them."""

        def others(skipped: Container[int]) -> list[Process]:
            return self._everybody(skipped, self._see)[0]

        return hunt(found, others, lambda processes: self._left(job_id, processes))

    def close(self) -> None:
        """Nothing will be looked for any more."""
        self._jobs.clear()
        self._evidence.clear()

    def keep(self, pid: int, job_id: str) -> None:
        """A job is over, and what it left is to be left alone: it is never looked for."""
        self.leave(pid)

    def kill_everybody(self, is_kept: Callable[[str], bool] = lambda job_id: False) -> None:
        """
        All that is left of jobs that are not done, and so not kept. Blocks until they are gone, two seconds at
        most.
        """
        deadline = time.monotonic() + _LAST_SECONDS
        while self._kill_once() and time.monotonic() < deadline:
            time.sleep(_LAST_PAUSE)

    def _kill_once(self) -> bool:
        """Whether there was anything; in doubt there was."""
        try:
            killed = [self.kill(job.job_id, []) for job in self._jobs.values()]
        except OSError as error:  # no descriptor to look with: that passes
            self._log.error("What jobs left cannot be looked for: {error}", error=error)
            return True
        return any(killed)

    def _look(self, job_id: str) -> list[Process]:
        self._carried.clear()
        found, missed = self._everybody((), self._see)
        for _ in range(_LOOKS):
            if not missed:
                break
            new, missed = self._everybody({process.pid for process in found}, self._see)
            found += new
        return self._left(job_id, found)

    def _see(self, process: Process) -> None:
        """Read what it carries, if it can be of any job."""
        if process.start >= min((job.start or 0 for job in self._jobs.values()), default=0) - MOMENT_TICKS:
            self._carried[process.pid, process.start] = tuple(self._signs(process))

    def _left(self, job_id: str, processes: list[Process]) -> list[Process]:
        job = next(job for job in self._jobs.values() if job.job_id == job_id)
        evidence = self._evidence.get(job_id) or self._evidence_now(job)
        evidence.learn_sessions(processes)
        spared = {os.getpid(), *self._jobs}  # jobs' own processes are ended by their runs
        belonging = evidence.belonging(processes, self._seen_with, spared)
        return [process for process in belonging if not process.zombie]

    def _seen_with(self, process: Process) -> tuple[Sign, ...]:
        return self._carried.get((process.pid, process.start), ())

    def _evidence_now(self, job: DeadJob) -> Evidence:
        return Evidence([job], lambda mark: False, self._now())
