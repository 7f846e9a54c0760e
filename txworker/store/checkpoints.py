"""
Checkpoints of the store's write-ahead log, in a thread of their own, because a checkpoint waits for the disk.

By default SQLite lets the writer make them. Then the start of a job would wait for a busy disk now and then.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from txworker.base.logs import Logger
from txworker.store.connection import Connection

COMMITS_PER_CHECKPOINT = 400
"""So many commits make about 4 MiB of log."""


class Checkpoints:
    """Makes a checkpoint after every COMMITS_PER_CHECKPOINT calls of committed()."""

    _log = Logger()

    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        self._connection = Connection(connect)
        self._lock = threading.Lock()
        self.steps = 0
        """Increased when a checkpoint begins and when it ends: an odd value means that one is writing the file."""
        self._commits = 0
        self._due = threading.Event()
        self._closing = False
        self._end_lock = threading.Lock()
        self._ended = False
        self._call_at_end: Callable[[], None] = lambda: None
        self._thread = threading.Thread(target=self._run, name="txworker-checkpoints", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def committed(self) -> None:
        """Count a commit. The writer's thread; does not wait."""
        self._commits += 1
        if self._commits >= COMMITS_PER_CHECKPOINT:
            self._commits = 0
            self._due.set()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """
        Inside there is no connection; afterwards there is a new one. Waits for a checkpoint that runs.

        If it cannot be opened, the next checkpoint tries it again.
        """
        with self._lock:
            self._connection.close()
            try:
                yield
            finally:
                with suppress(sqlite3.Error):
                    self._connection.get()

    def close(self) -> None:
        """End the thread, without waiting for a checkpoint that runs."""
        self._closing = True
        self._due.set()

    def when_ended(self, call: Callable[[], None]) -> None:
        """Call it once the thread has no connection any more: now, or later in that thread."""
        with self._end_lock:
            if not self._ended:
                self._call_at_end = call
                return
        call()

    def _run(self) -> None:
        while True:
            self._due.wait()
            self._due.clear()
            if self._closing:
                break
            try:
                self._checkpoint()
            except sqlite3.Error as error:
                self._log.warn("The store's log could not be checkpointed: {error}.", error=error)
        self._connection.close()
        with self._end_lock:
            self._ended = True
        self._call_at_end()

    def _checkpoint(self) -> None:
        with self._lock:
            self.steps += 1
            try:
                self._connection.get().execute("PRAGMA wal_checkpoint(PASSIVE)")
            finally:
                self.steps += 1
