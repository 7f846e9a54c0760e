"""Byte ranges of an output file that another process has removed: finding them, and the file that lists them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import NamedTuple

from txworker.base.directory import open_own
from txworker.jobs import Loss

CUT, DELETED, REPLACED = "cut", "deleted", "replaced"

SUFFIX = ".lost"
"""The suffix of the file beside an output file that lists the losses."""

_WINDOW_BYTES = 64 * 1024
"""More than the block size of any file system."""


class Sample(NamedTuple):
    """A few bytes of an output file, not all of them NUL. While they are there, the file was not cut before them."""

    offset: int
    data: bytes

    def matches(self, fd: int) -> bool:
        """The open file still has these bytes, or a disk that fails does not tell. Any thread."""
        try:
            return os.pread(fd, len(self.data), self.offset) == self.data
        except OSError:
            return True


def sample_of(offset: int, data: bytes | memoryview) -> Sample | None:
    """
    A sample of data that the file has at this offset.

    None if it is all NUL, because a file that was cut and then written beyond its end has NULs there as well.
    """
    first = bytes(data[:16])
    return Sample(offset, first) if first.strip(b"\0") else None


def merged(losses: Iterable[Loss]) -> tuple[Loss, ...]:
    """The losses in order, with adjacent and overlapping ones joined."""
    found: list[Loss] = []
    for loss in sorted(losses):
        if found and loss.begin <= found[-1].end:
            found[-1] = found[-1]._replace(end=max(loss.end, found[-1].end))
        else:
            found.append(loss)
    return tuple(found)


def gap_around(fd: int, offset: int, size: int) -> tuple[int, int]:
    """
    Begin and end of the gap around `offset` in a file that was cut and then written again up to `size`.

    The file has a hole there, and NULs in the rest of the first and the last block. NULs that the job printed beside
    the gap count as lost. Moves the descriptor's file offset.
    """
    begin = min(_seek(fd, 0, os.SEEK_HOLE, size), offset)
    before = _read(fd, min(begin, _WINDOW_BYTES), max(0, begin - _WINDOW_BYTES))
    begin -= len(before) - len(before.rstrip(b"\0"))
    end = min(_seek(fd, offset, os.SEEK_DATA, size), size)
    while end < size and (behind := _read(fd, min(size - end, _WINDOW_BYTES), end)):
        nuls = len(behind) - len(behind.lstrip(b"\0"))
        end += nuls
        if nuls < len(behind):
            break
    return begin, end


def _read(fd: int, count: int, offset: int) -> bytes:
    """Empty where the disk fails."""
    try:
        return os.pread(fd, count, offset)
    except OSError:
        return b""


def _seek(fd: int, offset: int, whence: int, otherwise: int) -> int:
    try:
        return os.lseek(fd, offset, whence)
    except OSError:  # ENXIO: no hole, or no data, at or after the offset
        return otherwise


def save(name: str, losses: Sequence[Loss], dir_fd: int | None) -> None:
    """Write the list of losses beside the output file `name`, or remove it when there are none. Raises OSError."""
    if not losses:
        with suppress(FileNotFoundError):
            os.unlink(name + SUFFIX, dir_fd=dir_fd)
        return
    fd = open_own(name + SUFFIX, os.O_WRONLY | os.O_CREAT, dir_fd=dir_fd)
    try:
        text = "".join(f"{loss.begin} {loss.end} {loss.what}\n" for loss in losses).encode()
        os.pwrite(fd, text, 0)
        os.ftruncate(fd, len(text))
    finally:
        os.close(fd)


def load(name: str, dir_fd: int | None) -> tuple[Loss, ...]:
    """The losses that save() wrote for the output file `name`; none if there is no list, or it cannot be read."""
    with suppress(OSError, ValueError):
        fd = open_own(name + SUFFIX, os.O_RDONLY, dir_fd=dir_fd)
        with open(fd, encoding="ascii") as file:
            return tuple(_loss(line) for line in file)
    return ()


def _loss(line: str) -> Loss:
    begin, end, what = line.split()
    return Loss(int(begin), int(end), what)
