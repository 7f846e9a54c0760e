"""Files in memory, without a name in any directory (memfd_create(2))."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def memory_file(data: bytes, name: str) -> Iterator[int]:
    """
    The descriptor of an open file that contains `data`. Unlike a pipe it needs no writer while it is read.

    Raises:
        OSError: there is no memory or no descriptor for it.
    """
    fd = os.memfd_create(name)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(fd, rest) :]
        os.lseek(fd, 0, os.SEEK_SET)
        yield fd
    finally:
        os.close(fd)
