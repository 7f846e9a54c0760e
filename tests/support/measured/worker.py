"""twistd under coverage, for tests.support.measured: `python worker.py TWISTD [argument ...]`."""

from __future__ import annotations

import os
import runpy
import signal
import sys
from pathlib import Path
from types import FrameType

import coverage

from txworker.process import shim_socket

_SAVE_AND_DIE = signal.SIGRTMIN + 1


def _save_and_die(number: int, frame: FrameType | None) -> None:
    if measurement := coverage.Coverage.current():
        measurement.stop()
        measurement.save()
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    del os.environ["COVERAGE_PROCESS_START"]  # jobs are not measured
    signal.signal(_SAVE_AND_DIE, _save_and_die)
    shim_socket.PROGRAM = str(Path(__file__).with_name("shim.py"))
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")
