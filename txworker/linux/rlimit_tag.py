"""
An rlimit tag: a job's number in a resource limit that every process inherits and nothing uses.

That is the soft limit of file locks (RLIMIT_LOCKS), which the kernel has not used since 2.4.25. A child has its tag
before it is born, while a cgroup is entered a moment after and an environment tag is gone with the environment.
"""

from __future__ import annotations

import resource

LOCKS = 10  # <asm/resource.h>; the module resource has no name for it


def as_limits(number: int) -> tuple[tuple[str, int, int, int], ...]:
    """The same for a child that sets its own limits."""
    possible = number and resource.getrlimit(LOCKS)[1] == resource.RLIM_INFINITY
    return (("rlimit tag", LOCKS, number, resource.RLIM_INFINITY),) if possible else ()


def tagged(number: int) -> _Tagged:
    """Every child that this process makes inside has that tag, so one thread at a time. 0: none."""
    return _Tagged(number)


class _Tagged:
    __slots__ = ("_before", "_number")

    def __init__(self, number: int) -> None:
        self._number = number

    def __enter__(self) -> None:
        self._before = resource.getrlimit(LOCKS)
        if self._before[1] != resource.RLIM_INFINITY:  # a limit that an operator has set stays
            self._number = 0
        if self._number:
            resource.setrlimit(LOCKS, (self._number, resource.RLIM_INFINITY))

    def __exit__(self, *_: object) -> None:
        if self._number:
            resource.setrlimit(LOCKS, self._before)
