"""
A pipe of ours between a job's pipe and a file.

While the kernel copies from a pipe into a file it holds that pipe's lock, and the job's next write waits. From pipe to
pipe it hands the pages over without copying them (splice(2)): so a job's pipe is emptied into ours at once, and while
ours is copied the job fills its own again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
import termios
from collections.abc import Iterator

PIPE_BYTES = 1024 * 1024
"""Of a pipe through which much comes, as far as the kernel allows (/proc/sys/fs/pipe-max-size)."""

_SPLICE_F_NONBLOCK = 2  # <fcntl.h>; os has it from Python 3.12 on


class Basin:
    """
    One, used by one thread. What it holds is to be read from `fd`, all of it, before it is filled again.

    Raises:
        OSError: no descriptor is left for it.
    """

    def __init__(self) -> None:
        self.fd, self._filling = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        enlarge(self.fd)

    def fill(self, pipe: int) -> int:
        """
        Take what that pipe holds, as much as there is room for; how many bytes, 0: it has ended.

        Raises:
            BlockingIOError: the pipe is empty.
        """
        return os.splice(pipe, self._filling, PIPE_BYTES, flags=_SPLICE_F_NONBLOCK)

    def close(self) -> None:
        """What it holds is gone."""
        os.close(self.fd)
        os.close(self._filling)


@contextlib.contextmanager
def a_basin() -> Iterator[Basin | None]:
    """A basin for a while; None where there can be none."""
    basin = None
    if hasattr(os, "splice"):
        with contextlib.suppress(OSError):
            basin = Basin()
    try:
        yield basin
    finally:
        if basin is not None:
            basin.close()


def enlarge(fd: int) -> None:
    """Let that pipe hold PIPE_BYTES, or leave it as it is when the user's pipes may hold no more (pipe(7))."""
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with contextlib.suppress(OSError):
            fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE_BYTES)


def bytes_in(fd: int) -> int:
    """How many a pipe holds."""
    return int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, bytes(4)), sys.byteorder)
