"""Processes that a test finds by a word of their command line."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path


def alive(name: str) -> list[int]:
    """The processes with that name in their arguments."""
    found = []
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if name.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                found.append(int(pid))
    return found


def end(name: str) -> None:
    """No test leaves what was kept behind."""
    for pid in alive(name):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
