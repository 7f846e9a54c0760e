"""
Reaps what exits and is no job's leader: orphans that the shim adopted, and children that jobs made for the spawn
thread (CLONE_PARENT).
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress

from txworker.linux.wait import reap_some_of_thread
from txworker.shim.spawn_thread import SpawnThread

_REAP_SECONDS = 1.0
"""After a SIGCHLD children of the spawn thread that are not jobs are reaped, at most this often."""

_REAPED_PER_TURN = 64


class Reaping:
    """The descriptor fileno() can be read after a SIGCHLD; then call child_exited(). Made in the main thread."""

    def __init__(self, thread: SpawnThread) -> None:
        self._thread = thread
        self._woken = _wake_on_children()
        self._orphans_wait = False
        self._reap_at: float | None = None

    def fileno(self) -> int:
        """The descriptor to be watched."""
        return self._woken

    def child_exited(self) -> None:
        """An orphan may have exited, or a child of the spawn thread."""
        os.read(self._woken, 4096)
        self._orphans_wait = reap_some_of_thread(_REAPED_PER_TURN)
        if self._reap_at is None:
            self._reap_at = time.monotonic() + _REAP_SECONDS

    def proceed(self) -> list[float]:
        """Reap what is due; returns in how many seconds to call this again, at the latest: the least of these."""
        waits = []
        if self._orphans_wait:
            self._orphans_wait = reap_some_of_thread(_REAPED_PER_TURN)
            waits += [0.0] if self._orphans_wait else []
        if self._reap_at is not None:
            left = self._reap_at - time.monotonic()
            waits += [left] if left > 0 else self._reap_others()
        return waits

    def _reap_others(self) -> list[float]:
        if self._thread.starting:  # the child that is being started looks the same
            self._reap_at = time.monotonic() + _REAP_SECONDS
            return [_REAP_SECONDS]
        self._reap_at = None
        with suppress(OSError):  # thousands of tasks wait, or the kernel lacks memory: the next exit asks again
            self._thread.reap_others()
        return []


def _wake_on_children() -> int:
    """A descriptor that can be read after a SIGCHLD. Main thread, as signal.signal() requires."""
    reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    return reading
