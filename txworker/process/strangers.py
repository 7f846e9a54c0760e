"""
Orphans that carry nothing of a job's: looked at twice, then only asked whether they still live.

Without a cgroup some may stay as long as the worker has jobs. To read all that /proc says of each at every look would
make a look so slow that, beside a job that forks and forks, none would ever be certain of anything.
"""

from __future__ import annotations

import os

from txworker.process.procfs import Process
from txworker.waiting import Clock

APART_SECONDS = 0.2
"""Between the two looks: in the midst of an exec nobody seems to carry anything."""

KNOWN_SECONDS = 5.0
"""Then it is read anew: what it carries could have changed, at an exec."""


class Strangers:
    """By their numbers, which nobody else can have: they are children of ours, and only we wait for them."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen: dict[int, tuple[Process, float]] = {}
        self._known_until: dict[int, float] = {}

    def get(self, pid: int) -> Process | None:
        """That one as it was read last, if it is known and lives."""
        until = self._known_until.get(pid)
        if until is None:
            return None
        if until < self._clock.seconds() or _has_exited(pid):
            del self._known_until[pid]
            return None
        return self._seen[pid][0]

    def __contains__(self, pid: int) -> bool:
        return pid in self._known_until

    def saw(self, process: Process) -> None:
        """It was read, and carries nothing."""
        now = self._clock.seconds()
        before, since = self._seen.get(process.pid, (process, now))
        if before.start != process.start:
            since = now
        self._seen[process.pid] = (process, since)
        if now - since >= APART_SECONDS:
            self._known_until.setdefault(process.pid, now + KNOWN_SECONDS)

    def forget(self, pid: int) -> None:
        """It is to be looked at like any other, or somebody else may have the number from now on."""
        self._seen.pop(pid, None)
        self._known_until.pop(pid, None)


def _has_exited(pid: int) -> bool:
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True
