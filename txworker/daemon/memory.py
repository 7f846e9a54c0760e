"""
Returns freed memory from the C library to the system.

By default glibc raises its mmap threshold when a large block is freed (mallopt(3)), and later takes blocks of that size
from its heaps, where one small block in use keeps megabytes from being returned: after four hundred starts with 4 MiB
of stdin each, a worker held a gigabyte.
"""

from __future__ import annotations

import ctypes
import os
from typing import Any

LARGE_BYTES = 1024 * 1024
"""Larger blocks get their own mapping, which free() returns to the system. Blocks of output are smaller."""

GROWN_BYTES = 16 * 1024 * 1024
"""The heaps are trimmed when the process has grown by this much."""

LOOK_SECONDS = 10.0
"""How often the process's size is read."""

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # <malloc.h>


class Memory:
    """The memory of this process. Does nothing where the C library is not glibc."""

    def __init__(self) -> None:
        self._libc: Any = ctypes.CDLL(None)  # CDLL releases the GIL during a call
        if hasattr(self._libc, "mallopt"):
            self._libc.mallopt(_MMAP_THRESHOLD, LARGE_BYTES)
            self._libc.mallopt(_TRIM_THRESHOLD, 2 * LARGE_BYTES)
        self._least = resident_bytes()

    @property
    def grown(self) -> bool:
        """Whether the process is GROWN_BYTES larger than at its smallest."""
        now = resident_bytes()
        self._least = min(self._least, now)
        return now - self._least > GROWN_BYTES

    def give_back(self) -> None:
        """Return all free memory; takes a few milliseconds. Any thread."""
        if hasattr(self._libc, "malloc_trim"):
            self._libc.malloc_trim(0)


def resident_bytes() -> int:
    """The resident set size of this process (proc_pid_statm(5))."""
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
