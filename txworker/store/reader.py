"""Reading, from any thread: a few connections that take turns. Never waits for the writer (SQLite's WAL)."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from typing import Any

from txworker.jobs.errors import StoreBroken
from txworker.store.batches import in_our_words

_KEPT = 4
"""Connections that are kept open; more are made when more threads read at once."""

_LOOK_STEPS = 50_000
"""Of SQLite's virtual machine: some 2 ms."""


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
        return list(self.each(sql, parameters))

    def each(
        self, sql: str, parameters: Sequence[Any] = (), check: Callable[[], None] | None = None
    ) -> Generator[tuple[Any, ...], None, None]:
        """
        One row after another, each read when it is asked for: to be taken, or closed, soon. Any thread.

        check() is called now and then, however long the next row has to be looked for.

        Raises:
            StoreBroken: the file cannot be read. Or what check() raises.
        """
        try:
            connection = self._taken()
        except sqlite3.Error as error:
            raise self._trouble(error) from error
        look = _Look(check)
        try:
            with look.at(connection), closing(connection.execute(sql, parameters)) as cursor:
                yield from cursor
        except sqlite3.Error as error:
            connection.close()
            raise look.raised or self._trouble(error) from error
        except GeneratorExit:
            self._give_back(connection)
            raise
        self._give_back(connection)

    def close(self) -> None:
        """Close what is idle now, and what comes back later."""
        self._closed = True
        while self._idle:
            with suppress(IndexError):
                self._idle.pop().close()

    def _trouble(self, error: sqlite3.Error) -> StoreBroken:
        trouble = in_our_words(error)
        self._troubled(trouble)
        return trouble

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


class _Look:
    """Calls check() while SQLite works on a question; what that raises ends it, and is `raised`."""

    def __init__(self, check: Callable[[], None] | None) -> None:
        self._check = check
        self.raised: Exception | None = None

    @contextmanager
    def at(self, connection: sqlite3.Connection) -> Iterator[None]:
        if self._check is None:
            yield
            return
        connection.set_progress_handler(self._look, _LOOK_STEPS)
        try:
            yield
        finally:
            with suppress(sqlite3.Error):
                connection.set_progress_handler(None, 0)

    def _look(self) -> int:
        assert self._check is not None
        try:
            self._check()
        except Exception as error:  # whatever it is, who asked is told
            self.raised = error
        return int(self.raised is not None)
