"""
Moving what was written from the log (WAL) into the file proper: in a thread of its own, as it waits for the disk.

Done by the writer, as SQLite does it by default, every start of a job would wait for a busy disk now and then.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from txworker.base.logs import Logger

COMMITS = 400
"""So many commits are about 4 MiB of log."""


class Checkpoints:
    """wrote() counts commits and wakes the thread; it never waits."""

    _log = Logger()

    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        self._connect = connect
        self._connection = connect()
        self._working = threading.Lock()
        self.runs = 0
        """How many there were, counted when each begins and again when it ends: what was written is theirs."""
        self._commits = 0
        self._due = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="txworker-checkpoints", daemon=True)

    def start(self) -> None:
        """From now on the log is kept short."""
        self._thread.start()

    def wrote(self) -> None:
        """One more commit. The writer's thread."""
        self._commits += 1
        if self._commits >= COMMITS:
            self._commits = 0
            self._due.set()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Inside it has no connection; afterwards a new one. Waits for a checkpoint that runs."""
        with self._working:
            self._connection.close()
            try:
                yield
            finally:
                self._connection = self._connect()

    def close(self) -> None:
        """No more of them; one that runs goes on, in its daemonic thread."""
        self._closing = True
        self._due.set()

    def _run(self) -> None:
        while True:
            self._due.wait()
            self._due.clear()
            if self._closing:
                break
            try:
                with self._working:
                    self.runs += 1
                    self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
                    self.runs += 1
            except sqlite3.Error as error:
                self._log.warn("The store's log could not be checkpointed: {error}.", error=error)
        with suppress(sqlite3.Error):
            self._connection.close()
