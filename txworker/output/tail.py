"""
Reads a growing output file, and decodes its bytes to valid text.

For threads, because reads block; nothing here uses the reactor.
"""

from __future__ import annotations

import codecs
import os
from collections.abc import Callable
from pathlib import Path

from txworker.base.directory import open_own

BLOCK_BYTES = 256 * 1024
"""The size of one read, and so of one message: larger messages are not faster."""

_FARTHEST = 2**62
"""No file is larger; pread(2) refuses offsets of 2**63 and more."""

FIRST_BYTES = 16 * 1024
SHARE = 64
"""
A read is FIRST_BYTES at first, then a 64th of all that was read, up to a whole block. So a viewer that stops reading
holds little in memory, even after the 4 MB that gRPC buffers for it.
"""


class Tail:
    """
    An output file, open for reading at any offset: by its path, or by a descriptor that the Tail then owns.

    A context manager, which closes the file.

    Raises:
        OSError: the file cannot be opened, or is not one of the worker's.
    """

    def __init__(self, file: Path | int) -> None:
        self._fd = file if isinstance(file, int) else open_own(file, os.O_RDONLY)
        self._read = 0

    def __enter__(self) -> Tail:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def fileno(self) -> int:
        """The descriptor."""
        return self._fd

    def switch_to(self, fd: int) -> bool:
        """Read from `fd` from now on if it is another file, and return whether it is. Closes the other descriptor."""
        new, old = os.fstat(fd), os.fstat(self._fd)
        another = (new.st_dev, new.st_ino) != (old.st_dev, old.st_ino)
        if another:
            fd, self._fd = self._fd, fd
        os.close(fd)
        return another

    @property
    def size(self) -> int:
        """The size of the file now, in bytes."""
        return os.fstat(self._fd).st_size

    def read(self, offset: int, end: int | None = None) -> bytes:
        """The next bytes at `offset`, at most a block, up to `end` or the end of the file; empty if there are none."""
        wanted = min(BLOCK_BYTES, max(FIRST_BYTES, self._read // SHARE))
        if offset > _FARTHEST:
            return b""
        if end is not None:
            wanted = max(0, min(wanted, end - offset))
        block = os.pread(self._fd, wanted, offset)
        self._read += len(block)
        return block

    def lines_back(self, lines: int, end: int, check: Callable[[], None] = lambda: None) -> int:
        """
        The offset at which the last `lines` lines before `end` begin; an unfinished last line counts as one.

        Reads at most one block more than the result's bytes. Calls check() before each block; it may raise.
        """
        end = position = min(end, self.size)
        if lines >= end:  # each line has at least one byte
            return 0
        while position > 0:
            check()
            start = max(0, position - BLOCK_BYTES)
            block = os.pread(self._fd, position - start, start)
            if position == end and block.endswith(b"\n"):
                block = block[:-1]
            count = block.count(b"\n")
            if count >= lines:
                return start + _nth_from_end(block, lines) + 1
            lines -= count
            position = start
        return 0


class TextDecoder:
    """
    Decodes blocks of bytes to valid text, and gives the offset of each piece of text.

    Holds back a character that is split between blocks until it is complete. Invalid bytes become U+FFFD: all pieces
    together are `bytes.decode("utf-8", "replace")` of all blocks together.
    """

    def __init__(self, offset: int) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._offset = offset
        self._held = 0

    def decode(self, block: bytes, final: bool = False) -> tuple[str, int]:
        """The text that is complete now, and the offset of its first byte. `final`: no block follows."""
        offset = self._offset
        held_before = self._held
        text = self._decoder.decode(block, final)
        self._held = len(self._decoder.getstate()[0])
        self._offset += held_before + len(block) - self._held
        return text, offset


def _nth_from_end(block: bytes, count: int) -> int:
    position = len(block)
    for _ in range(count):
        position = block.rindex(b"\n", 0, position)
    return position
