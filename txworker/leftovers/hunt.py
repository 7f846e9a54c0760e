"""Killing processes that fork: stopped until nobody new appears, so that none can start another unseen, then killed."""

from __future__ import annotations

import time
from collections.abc import Callable, Container
from signal import SIGKILL, SIGSTOP

from txworker.linux.procfs import Process, send

HUNT_SECONDS = 0.25

Forest = Callable[[Container[int]], list[Process]]
"""All orphans but those, and whoever descends from them."""

Choice = Callable[[list[Process]], list[Process]]
"""Who of these is to be killed."""


def hunt(found: list[Process], forest: Forest, ours: Choice) -> list[Process]:
    """
    KILL to these and to whoever else is ours or appears meanwhile; all of them.

    New orphans alone are looked at as long as there are any: that takes less than a chain of forks needs for its
    next link. Those below who is stopped are looked for at last. Blocks for a moment; who is missed by then is
    found the next time.
    """
    held: dict[int, Process] = {}
    others: set[int] = set()
    new = found
    below = False
    deadline = time.monotonic() + HUNT_SECONDS
    while time.monotonic() < deadline:
        for process in new:
            send(process, SIGSTOP)
            held[process.pid] = process
        fresh = [process for process in forest(others if below else {*others, *held}) if process.pid not in held]
        mine = {process.pid for process in ours(fresh)}
        new = [process for process in fresh if process.pid in mine or process.parent in held]
        others.update(process.pid for process in fresh if process not in new)
        if below and not new:
            break
        below = not new
    for process in held.values():
        send(process, SIGKILL)
    return list(held.values())
