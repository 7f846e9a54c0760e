"""
What the next worker finds of the shim: its socket, by its name in the state directory.

The name is looked up in a descriptor of the directory, so a directory that was moved counts: it can be moved back, or
be configured where it is now. When the socket, or the directory, was deleted, no worker will ever connect.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress

from txworker.shim.messages import ENDED_BIT, SOCKET_NAME

PATIENCE_SECONDS = 60.0
"""How long the name may be gone: a directory is restored from a backup, or replaced in two steps."""


class Reachability:
    """
    directory: a descriptor of the state directory, in which the name leads to the shim's socket now. The kernel does
    not reuse the inode number of a socket's name while the socket is open.
    """

    def __init__(self, directory: int, now: Callable[[], float] = time.monotonic) -> None:
        self._directory = directory
        self._now = now
        self._socket = (0, 0)  # of no file
        with suppress(OSError):
            self._socket = self._found()
        self._gone_since: float | None = None

    def is_lost(self) -> bool:
        """Whether the name has led elsewhere for PATIENCE_SECONDS, at every call within that time."""
        if not self._is_gone():
            self._gone_since = None
            return False
        if self._gone_since is None:
            self._gone_since = self._now()
        return self._now() - self._gone_since >= PATIENCE_SECONDS

    def mark_ended(self) -> None:
        """
        Tell the next worker that this shim has ended and held no job (ENDED_BIT). Call it before the socket is closed.
        Another file that has the name is left alone; without a mark, jobs that were being started count as lost.
        """
        with suppress(OSError):
            fd = os.open(SOCKET_NAME, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._directory)
            try:
                if _identity(os.fstat(fd)) == self._socket:
                    os.chmod(f"/proc/self/fd/{fd}", 0o600 | ENDED_BIT)
            finally:
                os.close(fd)

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._directory)

    def _is_gone(self) -> bool:
        try:
            return self._found() != self._socket
        except FileNotFoundError:
            return True
        except OSError:  # a disk that does not answer does not prove that the name is gone
            return False

    def _found(self) -> tuple[int, int]:
        return _identity(os.stat(SOCKET_NAME, dir_fd=self._directory, follow_symlinks=False))


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino
