"""Reads from any thread over a pool of connections. A query never waits for the writer, thanks to SQLite's WAL."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from typing import Any

from txworker.jobs.errors import StoreBroken
from txworker.store.batches import DISK_REFUSES, to_store_error

_CONNECTION_SECONDS = 1.0
"""How long a query waits for a connection when none can be opened."""

_MAX_IDLE = 4
"""Connections that stay open. More are opened when more threads read at once."""

_ANY_QUERY: tuple[str, Sequence[Any]] = "PRAGMA user_version", ()
"""For a probe when a query has failed while the probe before it worked."""

CHECK_STEPS = 50_000
"""Between two calls of check(): instructions of SQLite's virtual machine, some 2 ms."""


class FilesReplaced(sqlite3.OperationalError):
    """The file to be opened is not the file that the other connections have open."""


class Reader:
    """
    Each query sees everything that was committed before it.

    connect() opens a connection.
    troubled() is called with an error of SQLite's, in the thread of the query; and with None, in the thread of probe(),
    when what failed first works again.
    """

    def __init__(
        self,
        connect: Callable[[], sqlite3.Connection],
        troubled: Callable[[StoreBroken | None], object] = lambda trouble: None,
    ) -> None:
        self._connect = connect
        self._troubled = troubled
        self._idle: list[sqlite3.Connection] = []
        self._failed: tuple[str, Sequence[Any]] | None = None
        self._closed = False
        self._reading = 0
        self._change = threading.Condition()
        self._paused = False

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """
        All rows of the result. Any thread.

        Raises:
            StoreBroken: the file cannot be read.
        """
        return list(self.iterate(sql, parameters))

    def iterate(
        self, sql: str, parameters: Sequence[Any] = (), check: Callable[[], None] | None = None
    ) -> Generator[tuple[Any, ...], None, None]:
        """
        Reads row by row. The caller exhausts or closes the generator soon, as it holds a connection. Any thread.

        check() is called now and then, also while SQLite searches for the next row.

        Raises:
            StoreBroken: the file cannot be read.
            Exception: what check() raises.
        """
        with self._counted():
            yield from self._iterate(sql, parameters, check)

    def open_one(self) -> None:
        """
        Open a connection and keep it, so that there is one even when no other can be opened later.

        Raises:
            sqlite3.Error: it cannot be opened.
        """
        self._release(self._connect())

    def probe(self) -> None:
        """
        Make the query that failed first again, over a new connection, which has nothing in memory. Any thread but the
        reactor's: it takes as long as the query, or as the disk.
        """
        with self._counted(), suppress(sqlite3.Error), closing(self._connect()) as connection:
            for _ in connection.execute(*(self._failed or _ANY_QUERY)):
                pass
            self._failed = None
            self._troubled(None)

    @contextmanager
    def paused(self, within_seconds: float) -> Iterator[None]:
        """
        Inside, no connection is open. Queries that come meanwhile wait.

        Raises:
            TimeoutError: earlier queries are not finished within that time.
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
        """Close the idle connections, and the others when their queries are finished."""
        self._closed = True
        while self._idle:
            with suppress(IndexError):
                self._idle.pop().close()

    def _iterate(
        self, sql: str, parameters: Sequence[Any], check: Callable[[], None] | None
    ) -> Generator[tuple[Any, ...], None, None]:
        try:
            connection = self._acquire()
        except sqlite3.Error as error:
            raise self._trouble(error, sql, parameters) from error
        progress = _ProgressCheck(check)
        try:
            with progress.during(connection), closing(connection.execute(sql, parameters)) as cursor:
                yield from cursor
        except sqlite3.Error as error:
            connection.close()
            raise progress.raised or self._trouble(error, sql, parameters) from error
        except GeneratorExit:
            self._release(connection)
            raise
        self._release(connection)

    def _trouble(self, error: sqlite3.Error, sql: str, parameters: Sequence[Any]) -> StoreBroken:
        trouble = to_store_error(error)
        if type(error) in DISK_REFUSES:  # not FilesReplaced, of which file_watch.py tells
            self._failed = self._failed or (sql, parameters)
            self._troubled(trouble)
        return trouble

    @contextmanager
    def _counted(self) -> Iterator[None]:
        """Counts this query as running inside."""
        self._enter()
        try:
            yield
        finally:
            self._leave()

    def _enter(self) -> None:
        with self._change:  # paused() holds it, so that a query waits here
            self._change.wait_for(lambda: not self._paused, _CONNECTION_SECONDS)
            self._reading += 1

    def _leave(self) -> None:
        with self._change:
            self._reading -= 1
            if self._paused:
                self._change.notify_all()

    def _acquire(self) -> sqlite3.Connection:
        try:
            return self._idle.pop()  # atomic, as append is
        except IndexError:
            return self._open()

    def _open(self) -> sqlite3.Connection:
        """A new connection, or the next idle one when none can be opened now."""
        end = time.monotonic() + _CONNECTION_SECONDS
        try:
            return self._connect()
        except FilesReplaced:
            while time.monotonic() < end:
                with suppress(IndexError):
                    return self._idle.pop()
                time.sleep(0.005)
            raise

    def _release(self, connection: sqlite3.Connection) -> None:
        if self._closed or len(self._idle) >= _MAX_IDLE:
            connection.close()
        else:
            self._idle.append(connection)


class _ProgressCheck:
    """Calls check() while SQLite works on a query. What check() raises ends the query and is kept in `raised`."""

    def __init__(self, check: Callable[[], None] | None) -> None:
        self._check = check
        self.raised: Exception | None = None

    @contextmanager
    def during(self, connection: sqlite3.Connection) -> Iterator[None]:
        """Queries on that connection are checked inside the block."""
        if self._check is None:
            yield
            return
        connection.set_progress_handler(self._progress, CHECK_STEPS)
        try:
            yield
        finally:
            with suppress(sqlite3.Error):
                connection.set_progress_handler(None, 0)

    def _progress(self) -> int:
        assert self._check is not None
        try:
            self._check()
        except Exception as error:  # whatever it is, the caller of iterate() gets it
            self.raised = error
        return int(self.raised is not None)
