"""Ending what a job left behind when its own process had exited: TERM, grace period, KILL, until nobody is left."""

from __future__ import annotations

import signal as signals
from collections.abc import Callable
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from txworker.process.census import Census
from txworker.process.cgroup import JobCgroup
from txworker.process.procfs import Process, read_process, send
from txworker.waiting import Clock, Timer

_FIRST_PAUSE, _LONGEST_PAUSE = 0.002, 0.1
_ROUNDS = 200
_GIVE_UP_SECONDS = 10.0
"""After KILL. Longer than that only a process lives that the kernel cannot end (uninterruptible sleep)."""


class Kin(Protocol):
    """Whoever else belongs to a job."""

    def look(self) -> Deferred[list[Process]]:
        """Fires with who is left."""

    def term(self, process: Process) -> None:
        """Ask one to end."""

    def kill(self, found: list[Process]) -> None:
        """End all, those that are not found yet as well."""

    def close(self) -> None:
        """Nobody is left, or nobody shall be looked for any more."""


class Family:
    """Kin by descent from the worker, and by cgroup where there is one. Reactor thread."""

    def __init__(self, job_id: str, census: Census, cgroup: JobCgroup | None) -> None:
        self._job_id = job_id
        self._census = census
        self._cgroup = cgroup

    def look(self) -> Deferred[list[Process]]:
        """Fires with who is left."""
        return self._census.of(self._job_id).addCallback(self._with_cgroup)

    def term(self, process: Process) -> None:
        """Ask one to end; CONT, because one that is stopped hears nothing."""
        send(process, signals.SIGTERM)
        send(process, signals.SIGCONT)

    def kill(self, found: list[Process]) -> None:
        """The whole cgroup at one stroke; beside it, stop whoever is found until nobody new appears, then kill them."""
        if self._cgroup is not None:
            self._cgroup.kill()
        known = {process.pid: process for process in found}
        new = found
        for _ in range(_ROUNDS):
            for process in new:
                send(process, signals.SIGSTOP)
            new = [process for process in self._census.now(self._job_id) if known.get(process.pid) != process]
            if not new:
                break
            known.update((process.pid, process) for process in new)
        for process in known.values():
            send(process, signals.SIGKILL)

    def close(self) -> None:
        """Give the cgroup back; one that is not empty stays."""
        if self._cgroup is not None:
            self._cgroup.remove()

    def _with_cgroup(self, found: list[Process]) -> list[Process]:
        if self._cgroup is None or self._cgroup.remove():
            return found
        known = {process.pid for process in found}
        inside = (read_process(pid) for pid in self._cgroup.pids() if pid not in known)
        return found + [process for process in inside if process is not None and not process.zombie]


class Clearing:
    """One job's. over(count) is told once, when nobody is left, with how many had to be ended. Reactor thread."""

    _log = Logger()

    def __init__(self, clock: Clock, job_id: str, kin: Kin, over: Callable[[int], None]) -> None:
        self._clock = clock
        self._job_id = job_id
        self._kin = kin
        self._over = over
        self._ended: set[tuple[int, int]] = set()
        self._kill_at = 0.0
        self._pause = _FIRST_PAUSE
        self._killing = False
        self._timer: Timer | None = None

    def begin(self, grace_seconds: float) -> None:
        """Look, and end who is found: TERM now, KILL when the grace period is over."""
        self._kill_at = self._clock.seconds() + grace_seconds
        self._look()

    def hurry(self, grace_seconds: float) -> None:
        """Let the grace period end after so long, if that is earlier."""
        self._kill_at = min(self._kill_at, self._clock.seconds() + grace_seconds)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._look()

    def _look(self) -> None:
        self._timer = None
        self._kin.look().addCallback(self._seen).addErrback(self._failed)

    def _seen(self, found: list[Process]) -> None:
        now = self._clock.seconds()
        if not found:
            self._finish()
            return
        new = [process for process in found if (process.pid, process.start) not in self._ended]
        self._ended.update((process.pid, process.start) for process in new)
        if len(new) == len(self._ended):  # the first time; a job that forks and forks must not fill the log
            pids = [process.pid for process in new]
            self._log.info("Job {job_id} left {pids} behind; being ended.", job_id=self._job_id, pids=pids)
        if now >= self._kill_at + _GIVE_UP_SECONDS:
            pids = [process.pid for process in found]
            self._log.error("Job {job_id}: {pids} could not be ended.", job_id=self._job_id, pids=pids)
            self._finish()
        elif now >= self._kill_at:
            if not self._killing:
                self._killing = True
                self._pause = _FIRST_PAUSE
            self._kin.kill(found)
            self._again(now, now)
        else:
            for process in new:
                self._kin.term(process)
            self._again(now, self._kill_at)

    def _again(self, now: float, latest: float) -> None:
        pause = self._pause if latest <= now else min(self._pause, latest - now)
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        self._timer = self._clock.callLater(pause, self._look)

    def _finish(self) -> None:
        self._kin.close()
        self._over(len(self._ended))

    def _failed(self, failure: object) -> None:
        self._log.failure("looking for what job {job_id} left", failure, job_id=self._job_id)  # type: ignore[arg-type]
        self._finish()
