"""Pipes: moving bytes in the kernel (splice(2)), and what a pipe holds or lacks (pipe(7))."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import sys
import termios

_SPLICE_F_NONBLOCK = 2  # <fcntl.h>; os has it from Python 3.12 on
_PAGE = os.sysconf("SC_PAGE_SIZE")
_WRITE_BYTES = 64 * 1024


def splice(source: int, target: int, most: int) -> int:
    """
    Move up to `most` bytes from the pipe `source` to `target`; returns how many, 0 at the end of the pipe.

    Raises:
        BlockingIOError: the pipe is empty.
        OSError: EINVAL: the target's file system does not support it.
    """
    return os.splice(source, target, most, flags=_SPLICE_F_NONBLOCK)


def fill(target: int, file: int, offset: int, size: int) -> int:
    """
    Move the bytes of a file, from `offset` up to `size`, to a pipe, as far as it has room. Returns how many, 0 when
    there are no more.

    write() is used for a target that is not a pipe, and for the last page of a file, because splice() fills a whole
    page of a pipe with however few bytes. So the target must be non-blocking.

    Raises:
        BlockingIOError: there is no room.
        BrokenPipeError: no process can read the pipe.
    """
    left = size - offset
    if left > _PAGE:
        try:
            return os.splice(file, target, left, offset_src=offset, flags=_SPLICE_F_NONBLOCK)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
    return os.write(target, os.pread(file, min(left, _WRITE_BYTES), offset)) if left > 0 else 0


def has_reader(pipe: int) -> bool:
    """Whether a process can read what is written to that end of a pipe."""
    poll = select.poll()
    poll.register(pipe, 0)
    return not poll.poll(0)


def bytes_in(pipe: int) -> int:
    """How many bytes a pipe holds."""
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)
