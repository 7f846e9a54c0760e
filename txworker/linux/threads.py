"""What a thread does not share with others (unshare(2), close_range(2)), its name, and the subreaper (prctl(2))."""

from __future__ import annotations

import ctypes
import os
import signal

_CLOSE_RANGE_UNSHARE = 2  # <linux/close_range.h>
_CLONE_FS = 0x200  # <linux/sched.h>
_ALL = 0xFFFF_FFFF
_PR_SET_CHILD_SUBREAPER = 36  # <linux/prctl.h>
_PR_SET_NAME = 15

_libc = ctypes.CDLL(None, use_errno=True)


def own_descriptor_table(kept: int) -> None:
    """
    From now on this thread has its own descriptor table, with only 0, 1, 2 and `kept` in it.

    The kernel copies the calling thread's table for each child: a small one keeps launches fast, however many
    descriptors other threads have open. Signals are blocked in this thread, because Python's handler writes to a
    descriptor that is not in this table.

    Raises:
        OSError: the kernel does not offer it.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    _close_range(kept + 1, _ALL, _CLOSE_RANGE_UNSHARE)
    if kept > 3:
        _close_range(3, kept - 1, 0)


def own_umask(umask: int) -> None:
    """
    From now on this thread, and what it starts, has this umask, and its own working directory.

    Raises:
        OSError: the kernel does not offer it.
    """
    _check(_libc.unshare(ctypes.c_int(_CLONE_FS)))
    os.umask(umask)


def become_subreaper() -> None:
    """
    From now on this process adopts the orphans among its descendants.

    Raises:
        OSError: the kernel does not offer it.
    """
    _check(_libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))


def set_name(name: str) -> None:
    """Set the name that ps shows for this thread, 15 bytes at most. Failure is ignored."""
    _libc.prctl(_PR_SET_NAME, ctypes.c_char_p(name.encode()), 0, 0, 0)


def _close_range(first: int, last: int, flags: int) -> None:
    _check(_libc.close_range(ctypes.c_uint(first), ctypes.c_uint(last), ctypes.c_int(flags)))


def _check(result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
