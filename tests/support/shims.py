"""The shims that tests' workers started, also those that nothing can connect to any more."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def shims_below(place: Path) -> list[int]:
    """The pids of the shims that hold a file or directory open that is, or was, below that directory."""
    return [int(name) for name in os.listdir("/proc") if name.isdecimal() and _is_shim_below(name, place)]


def _is_shim_below(pid: str, place: Path) -> bool:
    with contextlib.suppress(OSError):
        if Path(f"/proc/{pid}/comm").read_text() == "txworker-shim\n":
            links = (os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd"))
            return any(link.startswith(f"{place}/") for link in links)
    return False
