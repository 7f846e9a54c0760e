"""Executes a command on a kernel that has no close_range(2), as far as that command can see (seccomp(2))."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys

_NO_NEW_PRIVS, _SECCOMP, _FILTER = 38, 22, 2  # <linux/prctl.h>, <linux/seccomp.h>
_CLOSE_RANGE = 436
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06  # <linux/bpf_common.h>
_ERRNO, _ALLOW = 0x0005_0000, 0x7FFF_0000

program = b"".join(
    struct.pack("HBBI", *instruction)
    for instruction in (
        (_LOAD, 0, 0, 0),
        (_JUMP_IF_EQUAL, 0, 1, _CLOSE_RANGE),
        (_RETURN, 0, 0, _ERRNO | errno.ENOSYS),
        (_RETURN, 0, 0, _ALLOW),
    )
)
code = ctypes.create_string_buffer(program)
head = struct.pack("HxxxxxxP", 4, ctypes.addressof(code))
prctl = ctypes.CDLL(None, use_errno=True).prctl
if prctl(_NO_NEW_PRIVS, 1, 0, 0, 0) or prctl(_SECCOMP, _FILTER, ctypes.c_char_p(head), 0, 0):
    sys.exit(f"no seccomp here: {os.strerror(ctypes.get_errno())}")
os.execv(sys.argv[1], sys.argv[1:])
