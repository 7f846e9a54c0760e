"""
Reading a growing output file, and making valid text of its bytes.

For threads: reads block, nothing here knows of the reactor.
"""

from __future__ import annotations

import codecs
import os
from collections.abc import Callable
from pathlib import Path

from txworker.base.directory import open_own

BLOCK_BYTES = 256 * 1024
"""Of one read, so of one message: larger ones carry no more (docs/architecture.md)."""

_FARTHEST = 2**62
"""No file is so large; pread(2) takes no offset beyond 2**63."""

FIRST_BYTES = 16 * 1024
SHARE = 64
"""
A read is FIRST_BYTES at first and then up to a 64th of all that was read, until it is a whole block: a viewer that
stops taking, be it after the 4 MB that gRPC takes for it, holds up little.
"""


class Tail:
    """
    A file open for reading at any offset: one of the worker's, by its path or by a descriptor, which is this one's from
    now on. Close it, or use it in a `with`.

    Raises:
        OSError: the file cannot be opened, or is not the worker's.
    """

    def __init__(self, file: Path | int) -> None:
        self._fd = file if isinstance(file, int) else open_own(file, os.O_RDONLY)
        self._read = 0

    def __enter__(self) -> Tail:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def fileno(self) -> int:
        """Its descriptor."""
        return self._fd

    def turn_to(self, fd: int) -> bool:
        """Go on in that file, if it is another one; else it is closed. Whether it is."""
        new, old = os.fstat(fd), os.fstat(self._fd)
        another = (new.st_dev, new.st_ino) != (old.st_dev, old.st_ino)
        if another:
            fd, self._fd = self._fd, fd
        os.close(fd)
        return another

    @property
    def size(self) -> int:
        """Bytes in the file now."""
        return os.fstat(self._fd).st_size

    def read(self, offset: int, end: int | None = None) -> bytes:
        """A block of what is there from offset on; up to `end`, or to where the file ends now. Empty: nothing is."""
        wanted = min(BLOCK_BYTES, max(FIRST_BYTES, self._read // SHARE))
        if offset > _FARTHEST:
            return b""
        if end is not None:
            wanted = max(0, min(wanted, end - offset))
        block = os.pread(self._fd, wanted, offset)
        self._read += len(block)
        return block

    def lines_back(self, lines: int, check: Callable[[], None] = lambda: None) -> int:
        """
        The offset at which the last `lines` lines begin; an unfinished last line counts as one.

        Reads no more than is to be sent from there, and a block. Before each block check() is called, which may raise.
        """
        end = position = self.size
        if lines >= end:  # a line has a byte
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
    Blocks of bytes to valid text whose every piece knows its offset.

    A character cut between blocks is held back until it is whole; invalid bytes become U+FFFD, exactly as
    `bytes.decode("utf-8", "replace")` makes of the whole.
    """

    def __init__(self, offset: int) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._offset = offset
        self._held = 0

    def decode(self, block: bytes, final: bool = False) -> tuple[str, int]:
        """The text that is certain now, and the offset of its first byte. `final`: nothing follows."""
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
