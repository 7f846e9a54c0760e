"""Waiting for children without reaping them, with their resource usage (waitid(2), as the kernel has it)."""

from __future__ import annotations

import ctypes
import os
import struct

_WAITID = {"x86_64": 247, "aarch64": 95, "riscv64": 95, "ppc64le": 272, "s390x": 281}.get(os.uname().machine)
WNOTHREAD = 0x2000_0000
"""<linux/wait.h>: children of the calling thread only."""

_P_PID = 1
_RUSAGE_BYTES = 144
_SIGINFO = struct.Struct("iiixxxxiIi")
"""si_signo, si_errno, si_code, padding, si_pid, si_uid, si_status (<asm-generic/siginfo.h>, 64 bit)."""

_TIMES = struct.Struct("qqqqq")
"""ru_utime, ru_stime, ru_maxrss."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


class Exit:
    """
    How a child exited: exit_code or signal, the other is None. CPU times are in seconds.

    max_rss_bytes includes the time before the exec.
    """

    __slots__ = ("core_dumped", "exit_code", "max_rss_bytes", "signal", "system_cpu", "user_cpu")

    def __init__(self, code: int, status: int, user_cpu: float, system_cpu: float, max_rss_bytes: int) -> None:
        self.exit_code = status if code == os.CLD_EXITED else None
        self.signal = None if code == os.CLD_EXITED else status
        self.core_dumped = code == os.CLD_DUMPED
        self.user_cpu = user_cpu
        self.system_cpu = system_cpu
        self.max_rss_bytes = max_rss_bytes


def exit_of(pid: int) -> Exit | None:
    """
    How that child exited; None when it has not. It stays a zombie.

    Python's waitid() does not return the resource usage, and its wait4() reaps; the kernel's waitid does the one
    without the other.

    Raises:
        ChildProcessError: it is not a child of this process.
    """
    if _WAITID is None:
        return _exit_without_usage(pid)
    info, usage = ctypes.create_string_buffer(128), ctypes.create_string_buffer(_RUSAGE_BYTES)
    options = os.WEXITED | os.WNOHANG | os.WNOWAIT
    failed = _libc.syscall(ctypes.c_long(_WAITID), _P_PID, ctypes.c_long(pid), info, ctypes.c_long(options), usage)
    if failed:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    _, _, code, found, _, status = _SIGINFO.unpack_from(info)
    if not found:
        return None
    user, user_micro, system, system_micro, rss = _TIMES.unpack_from(usage)
    return Exit(code, status, user + user_micro / 1e6, system + system_micro / 1e6, rss * 1024)


def reap(pid: int) -> bool:
    """Reap that child if it has exited; returns whether it has gone, or is not a child of this process."""
    try:
        return os.waitpid(pid, os.WNOHANG) != (0, 0)
    except ChildProcessError:
        return True


def exited_child(options: int = 0) -> int | None:
    """
    A child of this process, or an orphan that it adopted, that has exited; it stays a zombie. options: WNOTHREAD: of
    the calling thread only.
    """
    try:
        exited = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT | options)
    except ChildProcessError:
        return None
    return None if exited is None else exited.si_pid


def reap_some_of_thread(most: int) -> bool:
    """Reap up to so many exited children of the calling thread; returns whether others may have exited."""
    for _ in range(most):
        pid = exited_child(WNOTHREAD)
        if pid is None:
            return False
        reap(pid)
    return True


def _exit_without_usage(pid: int) -> Exit | None:
    info = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    return None if info is None else Exit(info.si_code, info.si_status, 0.0, 0.0, 0)
