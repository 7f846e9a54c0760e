"""Ending what a job left behind when its leader had exited: TERM, grace period, KILL, until nothing is left."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from txworker.base.logs import Logger
from txworker.base.reactor import Clock, Timer
from txworker.leftovers.job_processes import Remaining
from txworker.leftovers.survivors import why_running
from txworker.linux.procfs import Process

_FIRST_PAUSE, _LONGEST_PAUSE = 0.002, 0.1
_GIVE_UP_SECONDS = 10.0
"""After the first KILL. Only a process that the kernel cannot end (uninterruptible sleep) runs longer than that."""

_BLOCKED_SECONDS = 1.0
"""After the first KILL. A process that still runs then is reported."""

_GIVE_UP_KILLS = 20
"""At least this many before giving up: on a busy machine, where each scan takes seconds, time alone proves nothing."""


class Processes(Protocol):
    """What a cleanup needs of JobProcesses (job_processes.py)."""

    def remaining(self) -> Deferred[Remaining]:
        """Fires with what is left of the job, at once or a little later; fails when /proc cannot be read."""

    def term(self, process: Process) -> None:
        """TERM to one process, if it is still the one that was found."""

    def kill(self, found: list[Process]) -> list[Process]:
        """KILL these and all of the job that appears meanwhile; returns all of them. Raises OSError."""

    def kill_cgroup(self) -> None:
        """KILL all of the job's cgroup, if it has one."""

    def close(self) -> None:
        """Nothing more is asked."""


class Cleanup:
    """
    One job's. done(count) is called once, when nothing is left or everything was tried, with the number of processes
    that were ended. `problem` says which could not be ended, and why; end_blocked(problem) is called with it before the
    cleanup gives up. Reactor thread.
    """

    _log = Logger()

    def __init__(self, clock: Clock, job_id: str, processes: Processes, done: Callable[[int], None]) -> None:
        self._clock = clock
        self._job_id = job_id
        self._processes = processes
        self._done = done
        self._ended: set[tuple[int, int]] = set()
        self._kill_at = 0.0
        self._pause = _FIRST_PAUSE
        self._kills = 0
        self._failing = self._abandoned = False
        self._timer: Timer | None = None
        self.end_blocked: Callable[[str], None] = lambda problem: None
        self.problem = ""

    def start(self, grace_seconds: float) -> None:
        """Scan, and send TERM to what is found; KILL when the grace period is over."""
        self._kill_at = self._clock.seconds() + grace_seconds
        self._scan()

    def shorten_grace(self, grace_seconds: float) -> None:
        """Let the grace period end after that many seconds, if that is earlier."""
        self._kill_at = min(self._kill_at, self._clock.seconds() + grace_seconds)
        if self._timer is not None:
            self._timer.cancel()
            self._scan()

    def kill_once(self) -> None:
        """Before start(), because the job leader was killed but is not seen to exit: KILL what else there is of it."""
        self._processes.remaining().addCallback(
            lambda remaining: self._count(self._processes.kill(remaining.processes))
        ).addErrback(self._kill_failed)

    def abandon(self) -> None:
        """The job is over, and what it left behind is another's affair: look for nothing more, report nothing."""
        self._abandoned = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _kill_failed(self, failure: Failure) -> None:
        self._tell("killed", failure)

    def _scan(self) -> None:
        self._timer = None
        self._processes.remaining().addCallback(self._found).addErrback(self._scan_failed)

    def _found(self, remaining: Remaining) -> None:
        if self._abandoned:
            return
        if not remaining.processes and not remaining.more:
            self._finish()
            return
        new = self._count(remaining.processes)
        if self._clock.seconds() < self._kill_at:
            for process in new:
                self._processes.term(process)
            self._scan_later()
        elif self._kills >= _GIVE_UP_KILLS and self._clock.seconds() >= self._kill_at + _GIVE_UP_SECONDS:
            self._give_up(remaining.processes)
        else:
            self._kill(remaining.processes)
            self._report_survivors(remaining.processes)
            self._scan_later()

    def _kill(self, found: list[Process]) -> None:
        self._count(self._processes.kill(found))
        if self._kills == 0:
            self._pause = _FIRST_PAUSE
            self._kill_at = self._clock.seconds()  # on a busy machine the first KILL is late, so giving up is, too
        self._kills += 1

    def _report_survivors(self, found: list[Process]) -> None:
        if not self.problem and self._clock.seconds() >= self._kill_at + _BLOCKED_SECONDS:
            self.problem = why_running([process.pid for process in found])
            self.end_blocked(self.problem)

    def _count(self, found: list[Process]) -> list[Process]:
        """Returns the new ones. Only the first are logged: a job that forks all the time must not fill the log."""
        new = [process for process in found if (process.pid, process.start) not in self._ended]
        if new and not self._ended:
            pids = [process.pid for process in new]
            self._log.info("Job {job_id} left {pids} behind; ending them.", job_id=self._job_id, pids=pids)
        self._ended.update((process.pid, process.start) for process in new)
        return new

    def _scan_later(self) -> None:
        grace_left = self._kill_at - self._clock.seconds()
        pause = min(self._pause, grace_left) if grace_left > 0 else self._pause
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        self._timer = self._clock.callLater(pause, self._scan)

    def _scan_failed(self, failure: Failure) -> None:
        """
        Most likely there is no descriptor or no memory to read /proc with. That passes, however long it takes, and
        until then nothing is known to be gone. The end of the worker does not wait for it (daemon/assembly.py).
        """
        if self._abandoned:
            return
        if not self._failing:
            self._failing = True
            self._tell("found", failure)
        if self._clock.seconds() >= self._kill_at:
            self._processes.kill_cgroup()
        self._scan_later()

    def _tell(self, what: str, failure: Failure) -> None:
        """Of a bug the log has the traceback."""
        sentence = "What job {job_id} left behind cannot be {what} now: {error}. Trying again."
        log = self._log.error if failure.check(OSError) else partial(self._log.failure, failure=failure)
        log(sentence, job_id=self._job_id, what=what, error=failure.value)

    def _give_up(self, left: list[Process]) -> None:
        problem = why_running([process.pid for process in left]) or "processes that it left behind could not be ended"
        self._log.error("Giving up the cleanup of job {job_id}: {problem}.", job_id=self._job_id, problem=problem)
        self._ended.difference_update((process.pid, process.start) for process in left)
        self._finish(problem)

    def _finish(self, problem: str = "") -> None:
        self.problem = problem
        self._processes.close()
        self._done(len(self._ended))
