"""
When a child is moved into its cgroup after its start, instead of being cloned into it.

Before the kernel moves a process it waits for every fork and exec, 11 ms in which other launches wait and the child can
start processes outside its cgroup. For about 10 ms after a move, the next move takes 30 µs. So in a burst children are
moved; a single child is cloned into its cgroup, which takes a millisecond more and leaves no gap.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable

from txworker.linux.own_cgroup import own_cgroup_path

_QUICK_SECONDS = 0.01


def move_self() -> None:
    """Move this process to the cgroup where it is, so that the moves that follow are quick."""
    with contextlib.suppress(OSError), open(f"{own_cgroup_path()}/cgroup.procs", "w") as procs:
        procs.write(str(os.getpid()))


class Moves:
    """The moves of one process. quick() is called before each launch with a cgroup, in the spawn thread."""

    def __init__(self, now: Callable[[], float] = time.monotonic, move_self: Callable[[], None] = move_self) -> None:
        self._now = now
        self._move_self = move_self
        self._launched = self._moved = -_QUICK_SECONDS

    def quick(self) -> bool:
        """Whether the next child is one of a burst, so that moving it is quick. If so, it must be moved."""
        now = self._now()
        burst = now - self._launched < _QUICK_SECONDS
        self._launched = now
        if burst:
            if now - self._moved >= _QUICK_SECONDS:
                self._move_self()
            self._moved = self._launched = self._now()
        return burst
