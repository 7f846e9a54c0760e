"""What a shim has been asked for and has not read yet."""

from __future__ import annotations

import ctypes
import os
import socket
from contextlib import suppress

_PIDFD_GETFD = 438  # the same number on every architecture
_BEGINNING_BYTES = 64


def is_requested(shim: int, kind: str) -> bool:
    """A message of that type waits in one of the shim's sockets. The shim is stopped."""
    pidfd = os.pidfd_open(shim)
    try:
        return any(
            f'"type":"{kind}"'.encode() in _first_message(pidfd, int(fd)) for fd in os.listdir(f"/proc/{shim}/fd")
        )
    finally:
        os.close(pidfd)


def _first_message(pidfd: int, number: int) -> bytes:
    """The beginning of what can be read from that descriptor, which stays there; empty: nothing, or it is no socket."""
    fd = ctypes.CDLL(None).syscall(_PIDFD_GETFD, pidfd, number, 0)
    with suppress(OSError), socket.socket(fileno=fd) as connection:
        return connection.recv(_BEGINNING_BYTES, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    return b""
