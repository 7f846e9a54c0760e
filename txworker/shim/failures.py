"""
Errors that nothing else in the shim handles: a lack of memory in the kernel, a disk that fails, or a bug. The shim goes
on, because all jobs would be lost with it; shim.log has the traceback.
"""

from __future__ import annotations

import time
import traceback
from contextlib import suppress

_PAUSE_SECONDS = 0.05
"""What failed is tried again at once, and may fail for long."""

_TOLD_EVERY_SECONDS = 60.0


class Failures:
    """Used by one thread."""

    def __init__(self) -> None:
        self._silent_until = 0.0

    def report(self) -> None:
        """In an `except` clause: print the traceback, unless one was printed in the last minute, and pause."""
        if time.monotonic() >= self._silent_until:
            self._silent_until = time.monotonic() + _TOLD_EVERY_SECONDS
            with suppress(OSError):  # the disk is full
                traceback.print_exc()
        time.sleep(_PAUSE_SECONDS)
