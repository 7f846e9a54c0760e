"""
Reaping orphans, a duty of process 1: in a container without an init program that is the worker.

The kernel gives every orphan that no subreaper takes to process 1: what `docker exec` left behind, and processes of a
shim that was killed. An orphan that exits stays in the process table until it is reaped.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Container

from twisted.application.internet import TimerService
from twisted.internet import process

from txworker.daemon.repeating import repeating
from txworker.linux.wait import exited_child, reap

SECONDS = 1.0
"""How often zombies are reaped. A zombie has nothing but its number in the process table."""


def reap_orphans(
    ours: Container[int], exited: Callable[[], int | None] = exited_child, reap: Callable[[int], object] = reap
) -> int:
    """
    Reap the children that have exited, until there is one of `ours`, which is waited for by whatever started it; how
    many were reaped. Reactor thread.
    """
    count = 0
    while (pid := exited()) is not None and pid not in ours:
        reap(pid)
        count += 1
    return count


def orphan_reaper(pid: int | None = None) -> list[TimerService]:
    """Reaps orphans again and again; none is needed where the worker is not process 1."""
    if (os.getpid() if pid is None else pid) != 1:
        return []
    # Everything that the worker itself starts is in there, from spawnProcess until it is reaped.
    return [repeating(SECONDS, lambda: reap_orphans(process.reapProcessHandlers))]
