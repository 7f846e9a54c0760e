"""A program whose exec hangs, as on a disk or a network that does not answer."""

from __future__ import annotations

import fcntl
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def exec_that_waits(place: Path, script: str) -> Iterator[tuple[Path, threading.Event]]:
    """
    A script that no process can open inside, because this process holds a lease on it (fcntl(2)). Yields its path, and
    an event that is set when a process tries to open it. Main thread, as signal.signal() requires.
    """
    program = place / "program"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    tried = threading.Event()
    before = signal.signal(signal.SIGIO, lambda number, frame: tried.set())
    lease = os.open(program, os.O_RDONLY)
    try:
        fcntl.fcntl(lease, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        yield program, tried
    finally:
        os.close(lease)
        signal.signal(signal.SIGIO, before)
