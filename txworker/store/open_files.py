"""
Whether the files that the worker has open are still those that the next worker will find under their names.

SQLite goes on writing into a file that was deleted or replaced. What is written there is lost when the worker ends.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

from txworker.base.directory import open_own

Identity = tuple[int, int]

SUFFIXES = ("", "-wal", "-shm")
"""
The suffixes of a store's files. A lost log is as bad as a lost file; a replaced one is read by the next connection.
"""

_INDEX_HEADER = struct.Struct("=14xHI")
"""Of the log's index: the bytes of a page, and how many frames the log has (sqlite.org/walformat.html, 2.1)."""

_LOG_HEADER_BYTES, _FRAME_HEADER_BYTES = 32, 24
_LOG_MAGIC = b"\x37\x7f\x06"
"""How a log begins; the next byte says in which order the bytes of its checksums are."""


class OpenFiles:
    """
    Remembers which files the store `path` and its directory are now. Reactor thread, or before it runs.

    It keeps a descriptor of the log's index: with the close of any descriptor of a file a process loses its locks on it
    (fcntl_locking(2)), SQLite's as well, and then another program's SQLite empties the index while this one uses it.
    """

    def __init__(self, path: Path) -> None:
        self._path = str(path)
        self._directory = str(path.parent)
        self._index = -1
        self.remember()

    def close(self) -> None:
        """Close the descriptor. Any thread; only when no connection to the store is open any more."""
        index, self._index = self._index, -1
        if index >= 0:
            os.close(index)

    def remember(self) -> None:
        """
        Compare with the files that are there now, from now on. If the index was replaced, no connection to the one
        before may be open.
        """
        if self._index >= 0 and identity(self._index) != identity(f"{self._path}-shm"):
            self.close()
        self._opened = {name: found for name in self._names() if (found := identity(name)) is not None}
        self._size = _size(self._path)
        self._cut = ""

    def problem(self) -> str:
        """What happened to one of the files, as a sentence; empty: nothing."""
        for name, opened in self._opened.items():
            if identity(name) != opened:
                return f"{name} {what_happened(name)}"
        size = _size(self._path)
        if size < self._size and not self._cut:  # SQLite never shortens it; it may grow again, with holes
            self._cut = f"{self._path} was cut from {self._size} to {size} bytes"
        self._size = size
        if not self._cut and self.log_is_cut():
            self._cut = f"{self._path}-wal was cut"
        return self._cut

    def log_is_cut(self) -> bool:
        """Whether the log lacks what its index says that it has. False when it cannot be found out."""
        try:
            if self._index < 0:
                self._index = open_own(f"{self._path}-shm", os.O_RDONLY)
            return _is_cut(self._path, os.pread(self._index, _INDEX_HEADER.size, 0))
        except OSError:
            return False

    def modified_ns(self) -> int:
        """The modification time of the main file; 0: there is none."""
        try:
            return os.stat(self._path).st_mtime_ns
        except OSError:
            return 0

    def may_be_opened(self) -> bool:
        """All files are the same, and the main file is whole: SQLite removes the log of an empty file. Any thread."""
        return all(self.is_same(f"{self._path}{suffix}") for suffix in SUFFIXES) and _size(self._path) >= self._size

    def directory_is_same(self) -> bool:
        """The name of the directory leads to the same directory."""
        return self.is_same(self._directory)

    def is_same(self, name: str) -> bool:
        """The name leads to the same file as before, or to none as before."""
        return identity(name) == self._opened.get(name)

    def _names(self) -> list[str]:
        return [self._directory, *(f"{self._path}{suffix}" for suffix in SUFFIXES)]


def log_is_cut(path: str) -> bool:
    """
    Whether the log of the store `path` lacks what its index says that it has: it was cut, or deleted. What was cut off
    is lost, and the next connection would take the rest for all of it. False when it cannot be found out.

    Only for a process that has no connection to the store (OpenFiles says why), and for files of the present boot: an
    index from before a power failure may be older than the log.
    """
    try:
        return _is_cut(path, _begin(f"{path}-shm", _INDEX_HEADER.size))
    except OSError:
        return False


def _is_cut(path: str, index: bytes) -> bool:
    """index: its first bytes. Raises OSError: the log cannot be read."""
    if len(index) < _INDEX_HEADER.size:
        return False
    page_bytes, frames = _INDEX_HEADER.unpack(index)
    if not frames:  # all of it is in the main file
        return False
    begin = _begin(f"{path}-wal", len(_LOG_MAGIC))  # a log that was cut and grew again begins with a hole
    frame_bytes = _FRAME_HEADER_BYTES + (page_bytes if page_bytes > 1 else 65536)
    return begin != _LOG_MAGIC or _size(f"{path}-wal") < _LOG_HEADER_BYTES + frames * frame_bytes


def identity(name: str | int) -> Identity | None:
    """Device and inode of a path or descriptor; None when it cannot be examined."""
    try:
        found = os.stat(name)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def what_happened(name: str) -> str:
    """To a file that had this name, when the same one is not found there."""
    try:
        os.stat(name)
    except (FileNotFoundError, NotADirectoryError):
        return "was deleted or moved"
    except OSError as error:
        return f"cannot be looked at: {error.strerror}"
    return "was replaced"


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _begin(name: str, size: int) -> bytes:
    """The first bytes of a file of the worker's own; empty if there is none. Raises OSError."""
    try:
        fd = open_own(name, os.O_RDONLY)
    except FileNotFoundError:
        return b""
    try:
        return os.read(fd, size)
    finally:
        os.close(fd)
