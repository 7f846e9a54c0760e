"""Elapsed time that does not depend on how the wall clock is set. Retention and durations are measured with it."""

from __future__ import annotations

from collections.abc import Callable

DAY_SECONDS = 86_400.0
"""
Time in which the machine was off is counted up to this, by the wall clock, which may be wrong. A lower limit keeps the
history for too long; a higher one might remove it because a clock is fast.
"""


class Elapsed:
    """
    Seconds that never jump. They start at the wall clock's value and advance with the clock since boot; the next worker
    continues from the value that the worker before it recorded. Any thread.
    """

    def __init__(self, begin: float, since_boot: Callable[[], float]) -> None:
        self._since_boot = since_boot
        self._offset = begin - since_boot()

    def __call__(self) -> float:
        """The present value; only differences have a meaning."""
        return self._offset + self._since_boot()

    def clamp(self, earliest: float, latest: float) -> None:
        """Move the present value to the nearest one between these two."""
        now = self()
        self._offset += min(max(now, earliest), latest) - now


def continued(then: float, wall_since: float, booted_since: float | None, since_boot: float) -> tuple[float, float]:
    """
    The elapsed time now, after an earlier worker had recorded `then`; and by how much the wall clock disagrees.

    wall_since: seconds since the record by the wall clock.
    booted_since: the same by the clock since boot; None: the machine was restarted since.
    since_boot: seconds since the machine was started.
    """
    if booted_since is not None:
        return then + max(booted_since, 0.0), wall_since - booted_since
    counted = max(since_boot, min(wall_since, since_boot + DAY_SECONDS))
    return then + counted, wall_since - counted
