"""How much time has passed, however the wall clock is set: what retention counts by and durations are measured with."""

from __future__ import annotations

from collections.abc import Callable

from txworker.linux.clock import boot_seconds

DAY_SECONDS = 86_400.0
"""
So much of the time in which the machine was off is counted, by the wall clock, which may be wrong. Less keeps history
for too long, more might remove it because of a clock that runs ahead.
"""


class Elapsed:
    """
    Seconds that only pass. They begin as the wall clock's and go on with those since boot; the next worker goes on from
    what the one before wrote down. Any thread.
    """

    def __init__(self, begin: float, since_boot: Callable[[], float] = boot_seconds) -> None:
        self._since_boot = since_boot
        self._ahead = begin - since_boot()

    def __call__(self) -> float:
        """Now; only differences mean anything."""
        return self._ahead + self._since_boot()

    def bound(self, earliest: float, latest: float) -> None:
        """It is no earlier now than the one, and no later than the other."""
        now = self()
        self._ahead += min(max(now, earliest), latest) - now


def gone_on(then: float, wall_since: float, booted_since: float | None, since_boot: float) -> tuple[float, float]:
    """
    What has elapsed by now, after a worker that had come to `then`; and how much of the wall clock's is not believed.

    wall_since: seconds that have passed since by the wall clock. booted_since: by the clock since boot, None when the
    machine was restarted. since_boot: how long the machine runs.
    """
    if booted_since is not None:
        return then + max(booted_since, 0.0), wall_since - booted_since
    believed = max(since_boot, min(wall_since, since_boot + DAY_SECONDS))
    return then + believed, wall_since - believed
