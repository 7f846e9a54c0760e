"""Files without a name, in memory (memfd_create(2))."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def file_of(data: bytes, name: str) -> Iterator[int]:
    """
    The descriptor of an open file that reads as data, then ends. Never blocks a writer, so there is nothing to feed.

    Raises:
        OSError: no memory or descriptors for it.
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
