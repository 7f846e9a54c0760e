"""The clock that all processes of a machine share and that no user can set: time since boot."""

from __future__ import annotations

import os
import time

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def boot_seconds() -> float:
    """Now, in seconds since boot; the time in which the machine sleeps is counted, too."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def boot_ticks() -> int:
    """Now, in clock ticks since boot, the unit in which proc_pid_stat(5) gives the start of a process."""
    return int(boot_seconds() * TICKS_PER_SECOND)
