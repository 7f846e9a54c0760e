"""
Who is left of a job: the worker's descendants that belong to it.

The worker adopts orphans (PR_SET_CHILD_SUBREAPER, prctl(2)). So whatever a job's exited process left behind hangs
below a child of the worker that is no job's own process, a stray; when there is no stray, nobody is left of anything,
and to know that takes one read. Nobody who does not descend from the worker is ever looked at.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from signal import SIGKILL
from typing import Any

from twisted.internet.defer import Deferred

from txworker.process.procfs import Process, children_of_thread, mark_of, read_process, send, ticks_since_boot, tree
from txworker.waiting import Clock

_SHARE = 10
"""A census may take a tenth of the reactor's time; with many jobs running it serves all that ended meanwhile."""

_ROUNDS = 200
_REAP_PAUSE = 0.1
_PR_SET_CHILD_SUBREAPER = 36  # <linux/prctl.h>


@dataclass
class _Main:
    job_id: str
    start: int
    exited: bool = False


class Census:
    """Knows every job's own process and, on demand, whoever else descends from the worker. Reactor thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._mains: dict[int, _Main] = {}
        self._spared: set[int] = set()
        self._asked: list[tuple[str, Deferred[list[Process]]]] = []
        self._timer: Any = None
        self._due = 0.0
        self._not_before = 0.0

    def spare(self, pid: int) -> None:
        """A child of ours that is no job's."""
        self._spared.add(pid)

    def enter(self, pid: int, job_id: str) -> None:
        """A job's own process was started."""
        boot = time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else 0.0
        self._mains[pid] = _Main(job_id, ticks_since_boot(boot))

    def exited(self, pid: int) -> None:
        """A job's own process has exited, and is still ours to wait for."""
        self._mains[pid].exited = True

    def leave(self, pid: int) -> None:
        """A job's own process was waited for, and nobody is left of the job."""
        self._mains.pop(pid, None)

    def of(self, job_id: str) -> Deferred[list[Process]]:
        """Fires with who is left of that job: at once, or a little later when much is running."""
        answer: Deferred[list[Process]] = Deferred()
        self._asked.append((job_id, answer))
        self._schedule(0.0)
        return answer

    def now(self, job_id: str) -> list[Process]:
        """Who is left of that job, without waiting for a turn."""
        return _belonging(job_id, self._strays(), self._mains)

    def reapProcess(self) -> None:
        """Twisted, at SIGCHLD: an orphan may have exited."""
        self._schedule(_REAP_PAUSE)

    def kill_everybody(self) -> None:
        """Every stray and all below, whosever they are: there is no job any more that they could be of."""
        for _ in range(_ROUNDS):
            found = [process for root in self._strays() for process in tree(root.pid) if not process.zombie]
            if not found:
                return
            for process in found:
                send(process, SIGKILL)

    def _schedule(self, seconds: float) -> None:
        due = max(self._clock.seconds() + seconds, self._not_before)
        if self._timer is not None:
            if due >= self._due:
                return
            self._timer.cancel()
            self._timer = None
        if due <= self._clock.seconds():
            self._take()
        else:
            self._due = due
            self._timer = self._clock.callLater(due - self._clock.seconds(), self._take)

    def _take(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        asked, self._asked = self._asked, []
        begun = self._clock.seconds()
        strays = self._strays()
        answers = [(answer, _belonging(job_id, strays, self._mains)) for job_id, answer in asked]
        ended = self._clock.seconds()
        self._not_before = ended + _SHARE * (ended - begun)
        for answer, found in answers:
            answer.callback(found)

    def _strays(self) -> list[Process]:
        """Children of ours that are nobody's own process; those that have exited are waited for on the way."""
        found = []
        for pid in children_of_thread(os.getpid(), os.getpid()):
            if pid in self._mains or pid in self._spared:
                continue
            process = read_process(pid)
            if process is not None and process.zombie:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
            elif process is not None:
                found.append(process)
        return found


def _belonging(job_id: str, strays: list[Process], mains: dict[int, _Main]) -> list[Process]:
    """
    Of the strays and all below them, those of that job: by session, by mark, or by whom they descend from.

    A stray without any of these is of a job that ran when it was born; it counts as this one's when no other
    such job runs any more.
    """
    found: list[Process] = []
    for root in strays:
        owners: dict[int, str | None] = {}
        for process in tree(root.pid):
            main = mains.get(process.session)
            owner = main.job_id if main is not None else mark_of(process.pid)
            if owner is None:
                owner = owners.get(process.parent) if process.pid != root.pid else _last_candidate(root, job_id, mains)
            owners[process.pid] = owner
            if owner == job_id and not process.zombie:
                found.append(process)
    return found


def _last_candidate(stray: Process, job_id: str, mains: dict[int, _Main]) -> str | None:
    others = any(not main.exited and main.start <= stray.start for main in mains.values() if main.job_id != job_id)
    return None if others else job_id


def adopt_orphans(handlers: dict[Any, Any], census: Census) -> Callable[[], None]:
    """
    From now on this process is the parent of every orphan below it; the census waits for those that exit.

    handlers is Twisted's table of whom it tells of SIGCHLD. The result ends the telling.

    Raises:
        OSError: the kernel does not offer it.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "prctl") or libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "orphans cannot be adopted here")
    handlers[0] = census
    return lambda: handlers.pop(0, None) and None
