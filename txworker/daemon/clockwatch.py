"""Logs when the wall clock was set. Only times that are shown follow it; everything else uses elapsed time."""

from __future__ import annotations

from collections.abc import Callable

from txworker.base.logs import Logger

STEP_SECONDS = 5.0
"""Slewing the clock (adjtimex(2)) moves it by far less than this in a second."""

_HOUR_SECONDS, _DAY_SECONDS = 3600.0, 86_400.0


class ClockWatch:
    """now() is the wall clock, elapsed() one that cannot be set. stepped: seconds it was set by while no worker ran."""

    _log = Logger()

    def __init__(self, now: Callable[[], float], elapsed: Callable[[], float], stepped: float) -> None:
        self._now = now
        self._elapsed = elapsed
        self._ahead = now() - elapsed()
        self._log_step(stepped, " while no worker ran here")

    def look(self) -> None:
        """Compare the two clocks with the last look, and log a difference."""
        ahead = self._now() - self._elapsed()
        self._log_step(ahead - self._ahead)
        self._ahead = ahead

    def _log_step(self, stepped: float, when: str = "") -> None:
        if abs(stepped) >= STEP_SECONDS:
            self._log.warn(
                "The wall clock went {direction} by {duration}{when}. Times of new jobs follow it; retention, "
                "durations and time limits use the time that has passed.",
                direction="ahead" if stepped > 0 else "back",
                duration=_in_words(abs(stepped)),
                when=when,
            )


def _in_words(seconds: float) -> str:
    if seconds < 2 * _HOUR_SECONDS:
        return f"{seconds:.0f} s"
    return (
        f"{seconds / _HOUR_SECONDS:.1f} hours" if seconds < 2 * _DAY_SECONDS else f"{seconds / _DAY_SECONDS:.1f} days"
    )
