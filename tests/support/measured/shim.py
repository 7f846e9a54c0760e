"""The shim under coverage, for tests.support.measured: in the place of txworker/shim/main.py, and run as that is."""

from __future__ import annotations

import os
import signal
import sys
import threading
from importlib import import_module
from pathlib import Path
from types import FrameType

TOP = Path(__file__).resolve().parents[3]
PACKAGES = Path(sys.executable).parent.parent / f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"

sys.path += [str(TOP), str(PACKAGES)]  # an isolated Python has none

import coverage  # noqa: E402

measurement = coverage.Coverage(data_file=str(TOP / ".coverage"), config_file=str(TOP / "pyproject.toml"))


def save_and_die(number: int, frame: FrameType | None) -> None:
    measurement.stop()
    measurement.save()
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    signal.signal(signal.SIGRTMIN + 1, save_and_die)
    measurement.start()
    threading.settrace(None)  # not in the spawn thread: a process that it clones must not wait for a lock of coverage
    try:
        import_module("txworker.shim.main").main()
    finally:
        measurement.stop()
        measurement.save()
