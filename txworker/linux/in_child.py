"""
System calls for a child that was cloned from a thread (clone.py): none of these lets go of Python's lock.

os.dup2() and its like do, for other threads. To let go of it takes another lock, which a thread of the parent's may
have held at the moment of the clone; the child has no such thread, and would wait for ever.
"""

from __future__ import annotations

import ctypes
import os

_libc = ctypes.PyDLL(None, use_errno=True)


def dup2(fd: int, child_fd: int) -> None:
    """As os.dup2()."""
    _check(_libc.dup2(fd, child_fd))


def chdir(directory: str) -> None:
    """As os.chdir()."""
    _check(_libc.chdir(os.fsencode(directory)))


def write(fd: int, data: bytes) -> None:
    """As os.write(); not looked at is how much was taken."""
    _check(_libc.write(fd, data, ctypes.c_size_t(len(data))))


def write_file(path: str, data: bytes) -> None:
    """Into a file that is there."""
    fd = _check(_libc.open(os.fsencode(path), os.O_WRONLY | os.O_CLOEXEC))
    try:
        write(fd, data)
    finally:
        _libc.close(fd)


def _check(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
