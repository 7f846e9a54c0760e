"""What would keep twistd from starting: closed standard descriptors, a stale pidfile."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from txworker.linux.clock import TICKS_PER_SECOND, boot_seconds
from txworker.linux.procfs import Process, ProcessTable

_SLACK_SECONDS = 2.0
"""Both times are rounded, and the clock may be slewed between them."""


def open_standard_descriptors() -> None:
    """
    Open those of the descriptors 0, 1 and 2 that are closed, on /dev/null.

    Otherwise the first files that the process opens would get these numbers, and twistd puts /dev/null over them when
    it becomes a daemon. To be called before anything else is opened.
    """
    for fd in range(3):
        if not _is_open(fd):
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is this one
            os.set_inheritable(fd, True)
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", closefd=False)


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def remove_stale_pidfile(path: Path, table: ProcessTable, is_worker: Callable[[Process], bool]) -> int:
    """
    Remove twistd's pidfile if the process with that number did not write it; the number, or 0 if nothing was removed.

    twistd itself removes the file only if there is no process with that number, and otherwise does not start. After a
    crash or a restart of the machine any process may have the number. Whether a worker runs in the state directory is
    decided by the lease, not by this file.

    is_worker(process): it has the lease, so the file is its own; the time of a file says nothing when the wall
    clock was set since.
    """
    try:
        pid = int(path.read_bytes())
        written = path.stat().st_mtime
    except (OSError, ValueError):  # twistd reports these itself
        return 0
    process = table.read(pid)
    if process is None or is_worker(process):
        return 0
    started = time.time() - (boot_seconds() - process.start / TICKS_PER_SECOND)
    if started <= written + _SLACK_SECONDS and _is_twistd(pid):
        return 0
    try:
        path.unlink()
    except OSError:  # twistd does not start, and says why
        return 0
    return pid


def _is_twistd(pid: int) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return any(b"twistd" in os.path.basename(word) for word in words)
