"""Ending what a job left behind when its own process had exited: TERM, grace period, KILL, until nobody is left."""

from __future__ import annotations

import signal as signals
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from txworker.base.logs import Logger
from txworker.base.reactor import Clock, Timer
from txworker.leftovers.unended import why_alive
from txworker.linux.cgroup import JobCgroup
from txworker.linux.procfs import Process, read_process, send

_FIRST_PAUSE, _LONGEST_PAUSE = 0.002, 0.1
_GIVE_UP_SECONDS = 10.0
"""After the first KILL. Longer than that only a process lives that the kernel cannot end (uninterruptible sleep)."""

_HINDERED_SECONDS = 1.0
"""After the first KILL. Who lives that long is told of."""

_GIVE_UP_KILLS = 20
"""At least. On a machine so busy that each look takes seconds, time alone would tell nothing."""


@dataclass(frozen=True)
class Left:
    """Who is left of a job; hidden: somebody is, of whom no more is known than that."""

    processes: list[Process]
    hidden: bool = False


class Finder(Protocol):
    """What finds the leftovers of jobs: Census where there is a shim, Scan where there is none."""

    def expect(self, job_id: str) -> int: ...

    def enter(self, pid: int, job_id: str) -> None: ...

    def exited(self, pid: int) -> None: ...

    def leave(self, pid: int) -> None: ...

    def of(self, job_id: str) -> Deferred[list[Process]]: ...

    def kill(self, job_id: str, found: list[Process]) -> list[Process]: ...

    def keep(self, pid: int, job_id: str) -> None: ...

    def kill_everybody(self, is_kept: Callable[[str], bool] = ...) -> None: ...

    def close(self) -> None: ...


class Kin(Protocol):
    """Whoever else belongs to a job."""

    def look(self) -> Deferred[Left]:
        """Fires with who is left."""

    def term(self, process: Process) -> None:
        """Ask one to end."""

    def kill(self, found: list[Process]) -> list[Process]:
        """End all, those that are not found yet as well; whom it knows that it has signalled."""

    def kill_unseen(self) -> None:
        """End those of whom nothing need be known for that; perhaps nobody."""

    def close(self) -> None:
        """Nobody is left, or nobody shall be looked for any more."""


class Family:
    """Kin as the census finds it, and by cgroup where there is one. Reactor thread."""

    def __init__(self, job_id: str, census: Finder, cgroup: JobCgroup | None) -> None:
        self._job_id = job_id
        self._census = census
        self._cgroup = cgroup

    def look(self) -> Deferred[Left]:
        """Fires with who is left."""
        return self._census.of(self._job_id).addCallback(self._with_cgroup)

    def term(self, process: Process) -> None:
        """Ask one to end; CONT, because one that is stopped hears nothing."""
        send(process, signals.SIGTERM)
        send(process, signals.SIGCONT)

    def kill(self, found: list[Process]) -> list[Process]:
        """The whole cgroup at one stroke; and one by one whoever is found, or appears meanwhile."""
        self.kill_unseen()
        return self._census.kill(self._job_id, found)

    def kill_unseen(self) -> None:
        """The cgroup, where there is one and a descriptor to do it with."""
        if self._cgroup is not None:
            self._cgroup.kill()

    def close(self) -> None:
        """Give the cgroup back; one that is not empty stays."""
        if self._cgroup is not None:
            self._cgroup.remove()

    def _with_cgroup(self, found: list[Process]) -> Left:
        if self._cgroup is None or self._cgroup.remove():
            return Left(found)
        known = {process.pid for process in found}
        inside = (read_process(pid) for pid in self._cgroup.pids() if pid not in known)
        return Left(found + [process for process in inside if process is not None and not process.zombie], True)


class Clearing:
    """
    One job's. over(count) is told once, when nobody is left or all was tried, with how many were ended. `problem` says
    which could not be, and why; hindered(problem) is told before it is given up. Reactor thread.
    """

    _log = Logger()

    def __init__(self, clock: Clock, job_id: str, kin: Kin, over: Callable[[int], None]) -> None:
        self._clock = clock
        self._job_id = job_id
        self._kin = kin
        self._over = over
        self._ended: set[tuple[int, int]] = set()
        self._kill_at = 0.0
        self._pause = _FIRST_PAUSE
        self._kills = 0
        self._failing = False
        self._timer: Timer | None = None
        self.hindered: Callable[[str], None] = lambda problem: None
        self.problem = ""

    def begin(self, grace_seconds: float) -> None:
        """Look, and end who is found: TERM now, KILL when the grace period is over."""
        self._kill_at = self._clock.seconds() + grace_seconds
        self._look()

    def hurry(self, grace_seconds: float) -> None:
        """Let the grace period end after so long, if that is earlier."""
        self._kill_at = min(self._kill_at, self._clock.seconds() + grace_seconds)
        if self._timer is not None:
            self._timer.cancel()
            self._look()

    def strike(self) -> None:
        """KILL once, though its own process has not been seen to exit, to whoever else there is of it."""
        self._kin.look().addCallback(lambda left: self._count(self._kin.kill(left.processes))).addErrback(self._missed)

    def _missed(self, failure: Failure) -> None:
        self._log.failure("killing what job {job_id} left", failure, job_id=self._job_id)

    def _look(self) -> None:
        self._timer = None
        self._kin.look().addCallback(self._seen).addErrback(self._failed)

    def _seen(self, left: Left) -> None:
        if not left.processes and not left.hidden:
            self._finish()
            return
        new = self._count(left.processes)
        if self._clock.seconds() < self._kill_at:
            for process in new:
                self._kin.term(process)
            self._again()
        elif self._kills >= _GIVE_UP_KILLS and self._clock.seconds() >= self._kill_at + _GIVE_UP_SECONDS:
            self._give_up(left.processes)
        else:
            self._kill(left.processes)
            self._tell_hindered(left.processes)
            self._again()

    def _kill(self, found: list[Process]) -> None:
        self._count(self._kin.kill(found))
        if self._kills == 0:
            self._pause = _FIRST_PAUSE
            self._kill_at = self._clock.seconds()  # what was begun late, on a busy machine, is given up late
        self._kills += 1

    def _tell_hindered(self, found: list[Process]) -> None:
        if not self.problem and self._clock.seconds() >= self._kill_at + _HINDERED_SECONDS:
            self.problem = why_alive([process.pid for process in found])
            self.hindered(self.problem)

    def _count(self, found: list[Process]) -> list[Process]:
        """Those that are new. Only the first are logged: a job that forks and forks must not fill the log."""
        new = [process for process in found if (process.pid, process.start) not in self._ended]
        if new and not self._ended:
            pids = [process.pid for process in new]
            self._log.info("Job {job_id} left {pids} behind; being ended.", job_id=self._job_id, pids=pids)
        self._ended.update((process.pid, process.start) for process in new)
        return new

    def _again(self) -> None:
        grace_left = self._kill_at - self._clock.seconds()
        pause = min(self._pause, grace_left) if grace_left > 0 else self._pause
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        self._timer = self._clock.callLater(pause, self._look)

    def _failed(self, failure: Failure) -> None:
        """
        No descriptor or no memory to look with, most likely. That passes, however long it takes, and until then nobody
        is known to be gone. The worker's end does not wait for it for ever (assembly.py).
        """
        if not self._failing:
            self._failing = True
            self._log.failure("looking for what job {job_id} left", failure, job_id=self._job_id)
        if self._clock.seconds() >= self._kill_at:
            self._kin.kill_unseen()
        self._again()

    def _give_up(self, left: list[Process]) -> None:
        problem = why_alive([process.pid for process in left]) or "processes that it left behind could not be ended"
        self._log.error("Job {job_id} is given up: {problem}.", job_id=self._job_id, problem=problem)
        self._ended.difference_update((process.pid, process.start) for process in left)
        self._finish(problem)

    def _finish(self, problem: str = "") -> None:
        self.problem = problem
        self._kin.close()
        self._over(len(self._ended))
