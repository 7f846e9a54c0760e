"""Time, and the few other facts that the worker reads of the world."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class World:
    """
    What the worker reads of the world: now() is wall-clock time in seconds, for showing, and may be set at any time;
    elapsed() is time in seconds that only passes, over restarts, too; ticks() is the time in clock ticks since boot;
    new_id() makes a job's id; soon(call) makes a call a moment later.
    """

    now: Callable[[], float]
    elapsed: Callable[[], float]
    ticks: Callable[[], int]
    new_id: Callable[[], str]
    soon: Callable[[Callable[[], None]], object]
