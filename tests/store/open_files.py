"""Which files this process has open: a store's threads close theirs a moment after its close()."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def any_open_below(directory: Path) -> bool:
    """Whether a file below that directory is open."""
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if str(directory.absolute()) in os.readlink(f"/proc/self/fd/{fd}"):
                return True
    return False
