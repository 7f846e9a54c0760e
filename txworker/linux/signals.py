"""
Signal dispositions, of a child that is about to exec and of libc's internal signals; and which signal is pending.
"""

from __future__ import annotations

import ctypes
import os
import signal

_libc = ctypes.PyDLL(None)
_STOPS = {signal.SIGTERM, signal.SIGINT, signal.SIGUSR2}
_SETTABLE = sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})


def default_dispositions() -> None:
    """
    Give every signal its default disposition, and block none.

    By libc's signal(3): Python's works in the first thread of a process only, which the child of a clone does not have.
    """
    for number in _SETTABLE:
        _libc.signal(int(number), None)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def pending_stop() -> str:
    """The name of a signal that ends the worker and is pending, because it is blocked; empty: none is."""
    pending = signal.sigpending() & _STOPS
    return signal.Signals(min(pending)).name if pending else ""


_RT_SIGACTION = {"x86_64": 13, "aarch64": 134, "riscv64": 134, "ppc64le": 173, "s390x": 174}.get(os.uname().machine)
_LIBC_INTERNAL = (32, 33)
_KERNEL_SIGSET_BYTES = 8


def default_internal_signals() -> None:
    """
    Give libc's internal signals their default dispositions in this process, and so in its children.

    A program that glibc's posix_spawn started may have them ignored, and its children inherit that. libc refuses to
    set them, so this asks the kernel.
    """
    default = ctypes.create_string_buffer(64)  # struct sigaction as the kernel has it: SIG_DFL, no flags
    if _RT_SIGACTION is None:
        return
    for number in _LIBC_INTERNAL:
        _libc.syscall(
            ctypes.c_long(_RT_SIGACTION), ctypes.c_long(number), default, None, ctypes.c_size_t(_KERNEL_SIGSET_BYTES)
        )
