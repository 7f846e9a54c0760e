"""A connection that can be closed and opened again."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import suppress


class Connection:
    """
    An open connection, made by connect(). For one thread at a time.

    Raises:
        sqlite3.Error: it cannot be opened.
    """

    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        self._connect = connect
        self._opened: sqlite3.Connection | None = connect()

    @property
    def is_open(self) -> bool:
        """close() was not called, or it was opened again."""
        return self._opened is not None

    def get(self) -> sqlite3.Connection:
        """
        The open connection; a new one after close().

        Raises:
            sqlite3.Error: it cannot be opened now. The next call tries it again.
        """
        if self._opened is None:
            self._opened = self._connect()
        return self._opened

    def close(self) -> None:
        """Close the connection. May be called again."""
        opened, self._opened = self._opened, None
        if opened is not None:
            with suppress(sqlite3.Error):
                opened.close()
