"""
An rlimit tag: a number in a resource limit that every process inherits and that nothing uses.

It is the soft limit of file locks (RLIMIT_LOCKS), which the kernel has not used since 2.4.25. A child is born with it,
while it enters a cgroup a moment later, and loses an environment tag with the environment.
"""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager

LOCKS = 10  # <asm/resource.h>; the module `resource` has no name for it


def as_limits(tag: int) -> tuple[tuple[str, int, int, int], ...]:
    """The tag as a limit, for a child that sets its own limits: name, resource, soft, hard. Empty for 0."""
    possible = tag and resource.getrlimit(LOCKS)[1] == resource.RLIM_INFINITY
    return (("rlimit tag", LOCKS, tag, resource.RLIM_INFINITY),) if possible else ()


@contextmanager
def tagged(tag: int) -> Iterator[None]:
    """
    Every child that this process starts inside has that tag; 0 tags none. One thread at a time.

    A limit that an operator has set stays; then there is no tag.
    """
    before = resource.getrlimit(LOCKS)
    if not as_limits(tag):
        yield
        return
    resource.setrlimit(LOCKS, (tag, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        resource.setrlimit(LOCKS, before)
