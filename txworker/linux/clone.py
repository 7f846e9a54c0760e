"""clone3(2): a child that is born in a cgroup."""

from __future__ import annotations

import ctypes
import os
import signal
import struct

_CLONE3 = 435  # the same number on every architecture that has it
_CLONE_INTO_CGROUP = 0x2_0000_0000  # <linux/sched.h>

NEVER_SWITCH_SECONDS = 1e6
"""
For sys.setswitchinterval() of a program that calls clone_into_cgroup() in one of its threads: then no other thread
requests Python's lock. A child that is born during such a request would wait for a thread that it does not have.
"""

_libc = ctypes.PyDLL(None, use_errno=True)  # PyDLL keeps Python's lock: no other thread runs Python meanwhile
_libc.syscall.restype = ctypes.c_long


def clone_into_cgroup(cgroup: int) -> int:
    """
    As os.fork(), but the child is born in the cgroup of the directory that is open as that descriptor.

    Until its exec the child may not release Python's lock (in_child.py), because the lock is as the parent's other
    threads left it. os.fork() makes a new one, which takes the child half a millisecond (PyOS_AfterFork_Child).

    Raises:
        OSError: the kernel or a sandbox does not offer it.
    """
    arguments = struct.pack("11Q", _CLONE_INTO_CGROUP, 0, 0, 0, signal.SIGCHLD, *[0] * 5, cgroup)
    pid: int = _libc.syscall(ctypes.c_long(_CLONE3), arguments, ctypes.c_size_t(len(arguments)))
    if pid < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return pid
