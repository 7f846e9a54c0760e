"""
System calls for a child that was cloned from a thread (clone.py). None of them releases Python's lock.

os.dup2() and others release it, so that other threads can run. To release it takes another lock, which a thread of the
parent may have held at the moment of the clone; the child does not have that thread and would wait for ever.
"""

from __future__ import annotations

import ctypes
import os
import termios

_libc = ctypes.PyDLL(None, use_errno=True)


def dup2(fd: int, child_fd: int) -> None:
    """As os.dup2()."""
    _check(_libc.dup2(fd, child_fd))


def chdir(directory: str) -> None:
    """As os.chdir()."""
    _check(_libc.chdir(os.fsencode(directory)))


def control_terminal(fd: int) -> None:
    """Make the terminal the controlling one of this process's session, which has none yet (ioctl_tty(2))."""
    _check(_libc.ioctl(fd, ctypes.c_ulong(termios.TIOCSCTTY), 0))


def write(fd: int, data: bytes) -> None:
    """As os.write(); how much was written is not checked."""
    _check(_libc.write(fd, data, ctypes.c_size_t(len(data))))


def write_file(path: str, data: bytes) -> None:
    """Write to an existing file."""
    fd = _check(_libc.open(os.fsencode(path), os.O_WRONLY | os.O_CLOEXEC))
    try:
        write(fd, data)
    finally:
        _libc.close(fd)


def _check(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
