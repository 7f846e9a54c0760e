"""Reads files that the operator names, such as certificates, and that may be replaced by anything meanwhile."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

MAX_BYTES = 4 * 1024 * 1024
"""A system's whole bundle of CAs has a quarter of a megabyte."""


def read_small_file(path: Path) -> bytes:
    """
    The content of a regular file. Never waits for a writer, as a FIFO would, and reads MAX_BYTES at most.

    Raises:
        OSError: it cannot be read, is no regular file, or is larger.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", str(path))
        if found.st_size > MAX_BYTES:
            raise OSError(errno.EFBIG, f"it has more than {MAX_BYTES} bytes", str(path))
        with open(fd, "rb", closefd=False) as file:
            return file.read(MAX_BYTES)
    finally:
        os.close(fd)
