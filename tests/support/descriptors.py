"""The descriptors that this process has open."""

from __future__ import annotations

import contextlib
import os


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
