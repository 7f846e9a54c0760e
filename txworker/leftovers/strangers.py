"""
Orphans that carry nothing of a job's: looked at twice, then only asked whether they still live.

Without a cgroup some may stay as long as the worker has jobs. To read all that /proc says of each at every look would
make a look so slow that, beside a job that forks and forks, none would ever be certain of anything.
"""

from __future__ import annotations

import os
import select
from contextlib import suppress

from txworker.base.reactor import Clock
from txworker.linux.procfs import Process

APART_SECONDS = 0.2
"""Between the two looks: in the midst of an exec nobody seems to carry anything."""

KNOWN_SECONDS = 5.0
"""Then it is read anew: what it carries could have changed, at an exec."""


class Strangers:
    """By their numbers. A pidfd of each known one tells whether it lives, without a look at /proc."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen: dict[int, tuple[Process, float]] = {}
        self._known: dict[int, tuple[float, int]] = {}  # until when, and the pidfd

    def get(self, pid: int) -> Process | None:
        """That one as it was read last, if it is known and lives."""
        known = self._known.get(pid)
        if known is None:
            return None
        until, pidfd = known
        if until < self._clock.seconds() or _has_exited(pidfd):
            self._unlearn(pid)
            return None
        return self._seen[pid][0]

    def __contains__(self, pid: int) -> bool:
        return pid in self._known

    def saw(self, process: Process) -> None:
        """It was read, and carries nothing."""
        now = self._clock.seconds()
        before, since = self._seen.get(process.pid, (process, now))
        if before.start != process.start:
            since = now
        self._seen[process.pid] = (process, since)
        if now - since >= APART_SECONDS and process.pid not in self._known:
            with suppress(ProcessLookupError):
                self._known[process.pid] = (now + KNOWN_SECONDS, os.pidfd_open(process.pid))

    def forget(self, pid: int) -> None:
        """It is to be looked at like any other, or another process may have the number from now on."""
        self._seen.pop(pid, None)
        self._unlearn(pid)

    def close(self) -> None:
        """None is known any more."""
        for pid in list(self._known):
            self.forget(pid)

    def _unlearn(self, pid: int) -> None:
        _, pidfd = self._known.pop(pid, (0.0, -1))
        if pidfd >= 0:
            os.close(pidfd)


def _has_exited(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))
