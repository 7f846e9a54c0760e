"""clone3(2): a child that is born in a cgroup."""

from __future__ import annotations

import ctypes
import os
import signal
import struct

_CLONE3 = 435  # the same number on every architecture that has it
_CLONE_INTO_CGROUP = 0x2_0000_0000  # <linux/sched.h>

NEVER_SECONDS = 1e6
"""
For sys.setswitchinterval() of a program that calls clone_into_cgroup() in one of its threads: then no other asks for
Python's lock. A child that was born while one asks would wait for it, and it is not there, before its first step.
"""

_libc = ctypes.PyDLL(None, use_errno=True)  # keeps Python's lock: no other thread runs Python meanwhile
_libc.syscall.restype = ctypes.c_long


def clone_into_cgroup(cgroup: int) -> int:
    """
    As os.fork(); the child is in the cgroup whose directory is open as that descriptor.

    In the child nothing may let go of Python's lock before the exec (in_child.py), for it is as the parent's other
    threads have left it. os.fork() makes it anew, which costs the child half a millisecond (PyOS_AfterFork_Child).

    Raises:
        OSError: the kernel or a sandbox does not offer it.
    """
    arguments = struct.pack("11Q", _CLONE_INTO_CGROUP, 0, 0, 0, signal.SIGCHLD, *[0] * 5, cgroup)
    pid: int = _libc.syscall(ctypes.c_long(_CLONE3), arguments, ctypes.c_size_t(len(arguments)))
    if pid < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return pid
