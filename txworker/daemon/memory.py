"""
Memory that the C library keeps though nothing needs it any more, and how it is given back.

By default glibc, once a large block was freed, takes further ones of that size from its heaps, where a small one that
is in use keeps megabytes from going back: after four hundred starts with 4 MiB of stdin a worker held a gigabyte.
"""

from __future__ import annotations

import ctypes
import os
from typing import Any

LARGE_BYTES = 1024 * 1024
"""Blocks from this size on have pages of their own, which go back when they are freed. Blocks of output are smaller."""

GROWN_BYTES = 16 * 1024 * 1024
"""It is looked for what can go back when the process has grown by so much."""

LOOK_SECONDS = 10.0
"""How often the growth is looked at."""

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # <malloc.h>


class Memory:
    """What this process has from the system. Where the C library is not glibc, it is as it is."""

    def __init__(self) -> None:
        self._libc: Any = ctypes.CDLL(None)  # its calls do not hold Python's lock
        if hasattr(self._libc, "mallopt"):
            self._libc.mallopt(_MMAP_THRESHOLD, LARGE_BYTES)
            self._libc.mallopt(_TRIM_THRESHOLD, 2 * LARGE_BYTES)
        self._least = resident_bytes()

    @property
    def grown(self) -> bool:
        """It has so much more than when it had least that some may be to be given back."""
        now = resident_bytes()
        self._least = min(self._least, now)
        return now - self._least > GROWN_BYTES

    def give_back(self) -> None:
        """All that is free, in a few milliseconds. Any thread."""
        if hasattr(self._libc, "malloc_trim"):
            self._libc.malloc_trim(0)


def resident_bytes() -> int:
    """What this process holds in memory."""
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
