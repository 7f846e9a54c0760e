"""Files whose opening hangs, as on a disk or a network that does not answer."""

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
    """A script that no process can open inside. Yields its path, and the event of open_that_waits()."""
    program = place / "program"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    with open_that_waits(program) as tried:
        yield program, tried


@contextmanager
def open_that_waits(file: Path) -> Iterator[threading.Event]:
    """
    Inside no other process can open the file, because this process holds a lease on it (fcntl(2)). Yields an event that
    is set when one tries. Main thread, as signal.signal() requires.
    """
    tried = threading.Event()
    before = signal.signal(signal.SIGIO, lambda number, frame: tried.set())
    lease = os.open(file, os.O_RDONLY)
    try:
        fcntl.fcntl(lease, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        yield tried
    finally:
        os.close(lease)
        signal.signal(signal.SIGIO, before)
