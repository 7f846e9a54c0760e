"""The descriptors that this process has open."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator


def open_descriptors() -> set[tuple[int, str]]:
    """
    Each number and what it is. A test compares sets, because what another test has left may be closed at any time, by
    the collector of garbage: `open_descriptors() - before` has only what was opened since.
    """
    found = set()
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the descriptor of this very listing
            found.add((int(fd), os.readlink(f"/proc/self/fd/{fd}")))
    return found


@contextlib.contextmanager
def free_descriptors(count: int) -> Iterator[None]:
    """This process can open so many more, while it is in here."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = {fd for fd, _ in open_descriptors()}
    limit = 0
    while limit < soft and len(set(range(limit + 1)) - taken) <= count:
        limit += 1
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
