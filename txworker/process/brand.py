"""
A brand: the job's number in a place that every process inherits and nobody looks at or clears.

The place is the soft limit of file locks (RLIMIT_LOCKS), which the kernel has not used since 2.4.25. A brand is on
the child before it is born, while a cgroup is entered a moment after and a mark is gone with the environment.
"""

from __future__ import annotations

import hashlib
import resource
from collections.abc import Iterator
from contextlib import contextmanager

LOCKS = 10  # <asm/resource.h>; the module resource has no name for it


def brand(job_id: str) -> int:
    """Never the same for two jobs, on this worker or another, and never 0."""
    return int.from_bytes(hashlib.sha256(job_id.encode()).digest()[:7], "big") | 1 << 56


def as_limits(number: int) -> tuple[tuple[str, int, int, int], ...]:
    """The same for a child that sets its own limits (prepared.py)."""
    possible = number and resource.getrlimit(LOCKS)[1] == resource.RLIM_INFINITY
    return (("brand", LOCKS, number, resource.RLIM_INFINITY),) if possible else ()


@contextmanager
def branded(number: int) -> Iterator[None]:
    """Every child that this process makes meanwhile has that brand, so one thread at a time. 0: none."""
    soft, hard = resource.getrlimit(LOCKS)
    if not number or hard != resource.RLIM_INFINITY:  # nobody limits what is not used; if somebody did, it must stay
        yield
        return
    resource.setrlimit(LOCKS, (number, hard))
    try:
        yield
    finally:
        resource.setrlimit(LOCKS, (soft, hard))
