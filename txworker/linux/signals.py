"""Signals of a child that is about to exec, and those that only the kernel lets be set."""

from __future__ import annotations

import ctypes
import os
import signal

_libc = ctypes.PyDLL(None)
_SETTABLE = sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})


def default_dispositions() -> None:
    """
    Every signal has its default disposition, and none is blocked.

    By libc's signal(3): Python's own works in a process's first thread only, and the child of a clone has none.
    """
    for number in _SETTABLE:
        _libc.signal(int(number), None)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


_RT_SIGACTION = {"x86_64": 13, "aarch64": 134, "riscv64": 134, "ppc64le": 173, "s390x": 174}.get(os.uname().machine)
_LIBCS_OWN = (32, 33)
_KERNEL_SIGSET_BYTES = 8


def default_internal_signals() -> None:
    """
    libc's own signals have their default dispositions in this process, and so in its children.

    libc lets no program set them; a program that was started with them ignored, by a posix_spawn of glibc's, hands that
    down to all that it forks.
    """
    default = ctypes.create_string_buffer(64)  # struct sigaction as the kernel has it: SIG_DFL, no flags
    if _RT_SIGACTION is None:
        return
    for number in _LIBCS_OWN:
        _libc.syscall(
            ctypes.c_long(_RT_SIGACTION), ctypes.c_long(number), default, None, ctypes.c_size_t(_KERNEL_SIGSET_BYTES)
        )
