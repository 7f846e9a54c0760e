"""
A brand: the job's number in a place that every process inherits and nobody looks at or clears.

The place is the soft limit of file locks (RLIMIT_LOCKS), which the kernel has not used since 2.4.25. A brand is on
the child before it is born, while a cgroup is entered a moment after and a mark is gone with the environment.
"""

from __future__ import annotations

import hashlib
import resource
from functools import lru_cache

LOCKS = 10  # <asm/resource.h>; the module resource has no name for it


@lru_cache(maxsize=64)  # asked for twice at each launch
def brand(job_id: str) -> int:
    """Never the same for two jobs, on this worker or another, and never 0."""
    return int.from_bytes(hashlib.sha256(job_id.encode()).digest()[:7], "big") | 1 << 56


def as_limits(number: int) -> tuple[tuple[str, int, int, int], ...]:
    """The same for a child that sets its own limits (prepared.py)."""
    possible = number and resource.getrlimit(LOCKS)[1] == resource.RLIM_INFINITY
    return (("brand", LOCKS, number, resource.RLIM_INFINITY),) if possible else ()


def branded(number: int) -> _Branded:
    """Every child that this process makes inside has that brand, so one thread at a time. 0: none."""
    return _Branded(number)


class _Branded:
    __slots__ = ("_before", "_number")

    def __init__(self, number: int) -> None:
        self._number = number

    def __enter__(self) -> None:
        self._before = resource.getrlimit(LOCKS)
        if self._before[1] != resource.RLIM_INFINITY:  # nobody limits what is not used; if somebody did, it must stay
            self._number = 0
        if self._number:
            resource.setrlimit(LOCKS, (self._number, resource.RLIM_INFINITY))

    def __exit__(self, *_: object) -> None:
        if self._number:
            resource.setrlimit(LOCKS, self._before)
