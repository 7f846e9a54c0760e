"""
Whether the files that the worker has open are still those which the next worker will find at their names.

SQLite goes on writing into a file that was deleted or replaced, and what is written there is lost with the worker.
"""

from __future__ import annotations

import os
from pathlib import Path

Identity = tuple[int, int]

ENDINGS = ("", "-wal", "-shm")
"""Of the names of a store's files: a log that is lost is as bad as the file, and read by whoever opens it next."""


class Place:
    """The files of the store `path` and its directory, as they are now. For the reactor thread, or before it runs."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)
        self._directory = str(path.parent)
        self.remember()

    def remember(self) -> None:
        """What is there now is ours."""
        self._ours = {name: found for name in self._names() if (found := identity(name)) is not None}
        self._size = _size(self._path)
        self._cut = ""

    def problem(self) -> str:
        """What has become of one of them, in words; empty when all are what they were."""
        for name, ours in self._ours.items():
            found = identity(name)
            if found != ours:
                return f"{name} was {'deleted or moved' if found is None else 'replaced'}"
        size = _size(self._path)
        if size < self._size and not self._cut:  # it only grows; and does so again, with holes in it
            self._cut = f"{self._path} was cut from {self._size} to {size} bytes"
        self._size = size
        return self._cut

    def written_at(self) -> int:
        """When the file was written last, as the file system has it."""
        try:
            return os.stat(self._path).st_mtime_ns
        except OSError:
            return 0

    def has_files(self) -> bool:
        """For whoever is about to open them: SQLite removes the log of a file that is empty. Any thread."""
        return all(self.is_ours(f"{self._path}{ending}") for ending in ENDINGS) and _size(self._path) >= self._size

    def has_directory(self) -> bool:
        """The directory is the same."""
        return self.is_ours(self._directory)

    def is_ours(self, name: str) -> bool:
        """That is what it was."""
        return identity(name) == self._ours.get(name)

    def _names(self) -> list[str]:
        return [self._directory, *(f"{self._path}{ending}" for ending in ENDINGS)]


def identity(name: str | int) -> Identity | None:
    """Which file that is; None when there is none, or nobody can tell."""
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
