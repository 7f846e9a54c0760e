"""Reading, from any thread: a few connections that take turns. Never waits for the writer (SQLite's WAL)."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from txworker.jobs.errors import StoreBroken
from txworker.store.batches import in_our_words

_KEPT = 4
"""Connections that are kept open; more are made when more threads read at once."""


class Reader:
    """Each question sees all that was committed before it. troubled() hears, in the asking thread, what went wrong."""

    def __init__(
        self,
        connect: Callable[[], sqlite3.Connection],
        troubled: Callable[[StoreBroken], object] = lambda trouble: None,
    ) -> None:
        self._connect = connect
        self._troubled = troubled
        self._idle: list[sqlite3.Connection] = []
        self._closed = False

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """
        All rows of the answer. Any thread.

        Raises:
            StoreBroken: the file cannot be read.
        """
        connection: sqlite3.Connection | None = None
        try:
            connection = self._taken()
            rows = connection.execute(sql, parameters).fetchall()
        except sqlite3.Error as error:
            if connection is not None:
                connection.close()
            trouble = in_our_words(error)
            self._troubled(trouble)
            raise trouble from error
        self._give_back(connection)
        return rows

    def close(self) -> None:
        """Close what is idle now, and what comes back later."""
        self._closed = True
        while self._idle:
            with suppress(IndexError):
                self._idle.pop().close()

    def _taken(self) -> sqlite3.Connection:
        try:
            return self._idle.pop()  # atomic, as append is
        except IndexError:
            return self._connect()

    def _give_back(self, connection: sqlite3.Connection) -> None:
        if self._closed or len(self._idle) >= _KEPT:
            connection.close()
        else:
            self._idle.append(connection)
