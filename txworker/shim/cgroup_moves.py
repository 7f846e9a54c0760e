"""
When a child may be moved into its cgroup after its start.

The kernel lets every fork and exec pass before it moves a process: 11 ms, in which other launches wait and the child
can start others outside. For some 10 ms after a move the next one takes 30 µs. So in a burst children are moved; a
single one is forked into its cgroup, which takes a millisecond more and leaves no gap.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable

from txworker.linux.own_cgroup import own_cgroup_path

_QUICK_SECONDS = 0.01


def move_nobody() -> None:
    """A move that changes nothing: this process to where it is. What follows is quick."""
    with contextlib.suppress(OSError), open(f"{own_cgroup_path()}/cgroup.procs", "w") as procs:
        procs.write(str(os.getpid()))


class Moves:
    """Asked before each launch with a cgroup, in the spawn thread."""

    def __init__(
        self, now: Callable[[], float] = time.monotonic, move_nobody: Callable[[], None] = move_nobody
    ) -> None:
        self._now = now
        self._move_nobody = move_nobody
        self._launched = self._moved = -_QUICK_SECONDS

    def quick(self) -> bool:
        """The next child is one of a burst, and moving it will be quick; it shall be moved, then."""
        now = self._now()
        burst = now - self._launched < _QUICK_SECONDS
        self._launched = now
        if burst:
            if now - self._moved >= _QUICK_SECONDS:
                self._move_nobody()
            self._moved = self._launched = self._now()
        return burst
