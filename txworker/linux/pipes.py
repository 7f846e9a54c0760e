"""Pipes: moving bytes in the kernel (splice(2)), and how many bytes a pipe holds (pipe(7))."""

from __future__ import annotations

import fcntl
import os
import sys
import termios

_SPLICE_F_NONBLOCK = 2  # <fcntl.h>; os has it from Python 3.12 on


def splice(source: int, target: int, most: int) -> int:
    """
    Move up to `most` bytes from the pipe `source` to `target`; returns how many, 0 at the end of the pipe.

    Raises:
        BlockingIOError: the pipe is empty.
        OSError: EINVAL: the target's file system does not support it.
    """
    return os.splice(source, target, most, flags=_SPLICE_F_NONBLOCK)


def bytes_in(pipe: int) -> int:
    """How many bytes a pipe holds."""
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)
