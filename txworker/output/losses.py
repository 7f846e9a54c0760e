"""Which bytes of a job's output others have taken away: how it is found, and how it is kept beside the file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import NamedTuple

from txworker.base.directory import open_own
from txworker.jobs import Loss

CUT, DELETED, REPLACED = "cut", "deleted", "replaced"

ENDING = ".lost"
"""Of the file beside an output file that says what is not in it."""

_WINDOW_BYTES = 64 * 1024
"""More than a block of any file system has."""


class Proof(NamedTuple):
    """Some bytes that were written down, not all of them NUL: as long as they are found, nothing before was cut."""

    offset: int
    data: bytes

    def holds(self, fd: int) -> bool:
        """They are found. Any thread."""
        return os.pread(fd, len(self.data), self.offset) == self.data


def proof_of(offset: int, data: bytes | memoryview) -> Proof | None:
    """Of the first of these bytes, which are in the file from that offset on; None: they prove nothing."""
    few = bytes(data[:16])
    return Proof(offset, few) if few.strip(b"\0") else None


def merged(losses: Iterable[Loss]) -> tuple[Loss, ...]:
    """The same, in order, and none beside or in another."""
    found: list[Loss] = []
    for loss in sorted(losses):
        if found and loss.begin <= found[-1].end:
            found[-1] = found[-1]._replace(end=max(loss.end, found[-1].end))
        else:
            found.append(loss)
    return tuple(found)


def lost_around(fd: int, at: int, size: int) -> tuple[int, int]:
    """
    What was cut off of a file that was written on since, up to `size`: from where to where around `at` it holds NULs.

    What was cut is not in the file at all (a hole), but for parts of a block at both ends. In doubt more is said to be
    lost than is. Moves the descriptor's own offset.
    """
    begin = min(_sought(fd, 0, os.SEEK_HOLE, size), at)
    before = os.pread(fd, min(begin, _WINDOW_BYTES), max(0, begin - _WINDOW_BYTES))
    begin -= len(before) - len(before.rstrip(b"\0"))
    end = min(_sought(fd, at, os.SEEK_DATA, size), size)
    while end < size and (behind := os.pread(fd, min(size - end, _WINDOW_BYTES), end)):
        nuls = len(behind) - len(behind.lstrip(b"\0"))
        end += nuls
        if nuls < len(behind):
            break
    return begin, end


def _sought(fd: int, offset: int, what: int, otherwise: int) -> int:
    try:
        return os.lseek(fd, offset, what)
    except OSError:  # ENXIO: there is none any more
        return otherwise


def save(name: str, losses: Sequence[Loss], dir_fd: int | None) -> None:
    """Write down what is lost of the output file by that name, for who looks at it later. Raises OSError."""
    if not losses:
        with suppress(FileNotFoundError):
            os.unlink(name + ENDING, dir_fd=dir_fd)
        return
    fd = open_own(name + ENDING, os.O_WRONLY | os.O_CREAT, dir_fd=dir_fd)
    try:
        text = "".join(f"{loss.begin} {loss.end} {loss.what}\n" for loss in losses).encode()
        os.pwrite(fd, text, 0)
        os.ftruncate(fd, len(text))
    finally:
        os.close(fd)


def load(name: str, dir_fd: int | None) -> tuple[Loss, ...]:
    """What save() has written of the output file by that name; nothing where it has not."""
    with suppress(OSError, ValueError):
        fd = open_own(name + ENDING, os.O_RDONLY, dir_fd=dir_fd)
        with open(fd, encoding="ascii") as file:
            return tuple(_loss(line) for line in file)
    return ()


def _loss(line: str) -> Loss:
    begin, end, what = line.split()
    return Loss(int(begin), int(end), what)
