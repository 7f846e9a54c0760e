"""Bytes in memory for interfaces that read only named files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def memory_path(data: bytes) -> Iterator[str]:
    """A path to these bytes, for this process and inside the block only. The ssl module reads keys only from files."""
    with os.fdopen(os.memfd_create("data"), "wb") as file:
        file.write(data)
        file.flush()
        yield f"/proc/self/fd/{file.fileno()}"
