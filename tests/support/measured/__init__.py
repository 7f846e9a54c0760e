"""
Coverage of the programs that live tests start: the worker, its shim and the command line.

`TXWORKER_COVERAGE=1 sh scripts/test.sh` sets COVERAGE_PROCESS_START, by which coverage begins in every Python that a
test starts. Three things are left to do here. A worker takes the variable out of its environment, or the Python of
every job would be measured, too. A shim is run by an isolated Python, in which coverage has to be started. And what a
test kills at its end saves its data first.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

MEASURING = "COVERAGE_PROCESS_START" in os.environ

SAVE_AND_DIE = signal.SIGRTMIN + 1
"""A measured process saves its data and kills itself."""

_SAVING_SECONDS = 5.0

_HERE = Path(__file__).resolve().parent


def twistd_command(twistd: str) -> tuple[str, ...]:
    """How a worker's twistd is run: as it is, or measured."""
    return (sys.executable, str(_HERE / "worker.py"), twistd) if MEASURING else (twistd,)


def kill(pid: int) -> None:
    """End that worker or shim as SIGKILL does. Where it is measured it saves its data first, and is waited for."""
    if MEASURING and _catches(pid, SAVE_AND_DIE):
        os.kill(pid, SAVE_AND_DIE)
        end = time.monotonic() + _SAVING_SECONDS
        while _status(pid, "State")[:1] not in ("", "Z") and time.monotonic() < end:
            time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)


def _catches(pid: int, number: int) -> bool:
    return bool(int(_status(pid, "SigCgt") or "0", 16) >> (number - 1) & 1)


def _status(pid: int, name: str) -> str:
    """A field of /proc/PID/status; empty when there is no such process."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(f"{name}:")), "")
