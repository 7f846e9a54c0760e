"""
Whom the kernel takes when memory runs out: a job before the worker.

A child inherits the worker's own oom_score_adj (proc_pid_oom_score_adj(5)), so that is another for the moment in which
a child is made: no job ever runs without it, and two writes into an open file cost less than to find the child's.
"""

from __future__ import annotations

import os
from contextlib import suppress


class OomScore:
    """Of this process. Reactor thread."""

    def __init__(self) -> None:
        self._fd = -1
        with suppress(OSError):  # no such thing here
            self._fd = os.open("/proc/self/oom_score_adj", os.O_RDWR | os.O_CLOEXEC)
        self._own = os.pread(self._fd, 16, 0) if self._fd >= 0 else b""

    def lent(self, score: int) -> _Lent:
        """Every child that is made inside has that score; 0: our own. One that may not be given is not."""
        return _Lent(self._fd, self._own, b"%d" % score if score else b"")

    def close(self) -> None:
        """No children any more."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class _Lent:
    __slots__ = ("_fd", "_own", "_score")

    def __init__(self, fd: int, own: bytes, score: bytes) -> None:
        self._fd = fd
        self._own = own
        self._score = score

    def __enter__(self) -> None:
        if self._score:
            with suppress(OSError):
                os.pwrite(self._fd, self._score, 0)

    def __exit__(self, *_: object) -> None:
        if self._score:
            with suppress(OSError):
                os.pwrite(self._fd, self._own, 0)
