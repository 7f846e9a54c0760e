"""The clock that all processes of a machine share, and nobody can set."""

from __future__ import annotations

import time


def boot_seconds() -> float:
    """Now, in seconds since boot; the time in which the machine sleeps is counted, too."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
