"""
Whether the files that the worker has open are still those that the next worker will find under their names.

SQLite goes on writing into a file that was deleted or replaced. What is written there is lost when the worker ends.
"""

from __future__ import annotations

import os
from pathlib import Path

Identity = tuple[int, int]

SUFFIXES = ("", "-wal", "-shm")
"""
Of the names of a store's files. A lost log is as bad as a lost file; a replaced one is read by the next connection.
"""


class OpenFiles:
    """Remembers which files the store `path` and its directory are now. Reactor thread, or before it runs."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)
        self._directory = str(path.parent)
        self.remember()

    def remember(self) -> None:
        """Compare with the files that are there now, from now on."""
        self._opened = {name: found for name in self._names() if (found := identity(name)) is not None}
        self._size = _size(self._path)
        self._cut = ""

    def problem(self) -> str:
        """What happened to one of the files, as a sentence; empty: nothing."""
        for name, opened in self._opened.items():
            found = identity(name)
            if found != opened:
                return f"{name} was {'deleted or moved' if found is None else 'replaced'}"
        size = _size(self._path)
        if size < self._size and not self._cut:  # SQLite never shortens it; it may grow again, with holes
            self._cut = f"{self._path} was cut from {self._size} to {size} bytes"
        self._size = size
        return self._cut

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


def identity(name: str | int) -> Identity | None:
    """Device and inode of a path or descriptor; None when it cannot be examined."""
    try:
        found = os.stat(name)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
