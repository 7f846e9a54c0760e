"""Reading, from any thread: a few connections that take turns. Never waits for the writer (SQLite's WAL)."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from typing import Any

from txworker.jobs.errors import StoreBroken
from txworker.store.batches import in_our_words

_PATIENCE_SECONDS = 1.0

_KEPT = 4
"""Connections that are kept open; more are made when more threads read at once."""

_LOOK_STEPS = 50_000
"""Of SQLite's virtual machine: some 2 ms."""


class NotThere(sqlite3.OperationalError):
    """The file that is to be opened is not the one that is open."""


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
        self._reading = 0
        self._change = threading.Condition()
        self._paused = False

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
        with self._counted():
            yield from self._each(sql, parameters, check)

    def open_one(self) -> None:
        """
        One connection is there from now on, so that what is open can be read when no other can be opened.

        Raises:
            sqlite3.Error: it cannot be opened.
        """
        self._give_back(self._connect())

    @contextmanager
    def paused(self, within_seconds: float) -> Iterator[None]:
        """
        Inside no connection is open; who asks meanwhile waits, but not for longer than that.

        Raises:
            TimeoutError: somebody still reads.
        """
        with self._change:
            self._paused = True
            try:
                if not self._change.wait_for(lambda: not self._reading, within_seconds):
                    raise TimeoutError("the store is still being read")
                while self._idle:
                    self._idle.pop().close()
                yield
            finally:
                self._paused = False
                self._change.notify_all()

    def close(self) -> None:
        """Close what is idle now, and what comes back later."""
        self._closed = True
        while self._idle:
            with suppress(IndexError):
                self._idle.pop().close()

    def _each(
        self, sql: str, parameters: Sequence[Any], check: Callable[[], None] | None
    ) -> Generator[tuple[Any, ...], None, None]:
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

    def _trouble(self, error: sqlite3.Error) -> StoreBroken:
        trouble = in_our_words(error)
        self._troubled(trouble)
        return trouble

    @contextmanager
    def _counted(self) -> Iterator[None]:
        """Among those who read, until that question is answered or given up."""
        self._enter()
        try:
            yield
        finally:
            self._leave()

    def _enter(self) -> None:
        with self._change:  # held inside paused(): who asks then waits here
            self._change.wait_for(lambda: not self._paused, _PATIENCE_SECONDS)
            self._reading += 1

    def _leave(self) -> None:
        with self._change:
            self._reading -= 1
            if self._paused:
                self._change.notify_all()

    def _taken(self) -> sqlite3.Connection:
        try:
            return self._idle.pop()  # atomic, as append is
        except IndexError:
            return self._opened()

    def _opened(self) -> sqlite3.Connection:
        """A new one, or where none can be opened now the next that somebody gives back."""
        end = time.monotonic() + _PATIENCE_SECONDS
        try:
            return self._connect()
        except NotThere:
            while time.monotonic() < end:
                with suppress(IndexError):
                    return self._idle.pop()
                time.sleep(0.005)
            raise

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
