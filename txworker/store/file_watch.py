"""
Watches the store's files while the worker runs: detects what other programs do to them, reports it, and repairs it.

Until the files are repaired nothing is written: new jobs are refused, and the ends of jobs stay in memory. The open
connections still read everything that a deleted or replaced file contained, so the store can be written to a new file.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

from txworker.base.directory import permission_problem_of, refusal_for_root
from txworker.base.logs import Logger
from txworker.jobs.errors import StoreBroken
from txworker.store.checkpoints import Checkpoints
from txworker.store.connection import Connection
from txworker.store.errors import Unusable
from txworker.store.files import create_file, damage_marker, free_name, open_database, written_anew
from txworker.store.lease import Lease
from txworker.store.open_files import SUFFIXES, Identity, OpenFiles, identity
from txworker.store.reader import Reader
from txworker.store.writer import Writer

MAX_PAUSE_SECONDS = 60.0
"""Between attempts to repair. The first pause has a second, each further one twice as many."""

QUICK_CHECK_BYTES = 16 * 1024 * 1024
"""Up to this size the file is checked after another program wrote to it. The check takes 50 ms at most."""

READERS_SECONDS = 2.0
"""How long the reactor waits for running queries to finish."""


class FileWatch:
    """
    Call beat() once a second, and look() before a promise is made. Reactor thread.

    changed(trouble) is called when something is wrong, and with None when it is repaired.
    """

    _log = Logger()

    def __init__(
        self,
        path: Path,
        lease: Lease,
        writer: Writer,
        reader: Reader,
        checkpoints: Checkpoints,
        changed: Callable[[StoreBroken | None], None],
    ) -> None:
        self._path = path
        self._lease = lease
        self._writer = writer
        self._reader = reader
        self._checkpoints = checkpoints
        self._changed = changed
        self.open_files = OpenFiles(path)
        self._trouble = ""
        self._lease_problem = self._damage = ""
        self._last_write = 0, 0
        self._anew: Identity | None = None  # the file that was written last in the place of the original
        self._pause_seconds = 1.0
        self._next_attempt = 0.0

    def close(self) -> None:
        """End. Call it when the writer and the reader are closed, and after Checkpoints.close()."""
        self._checkpoints.when_ended(self.open_files.close)

    def beat(self) -> None:
        """Renew the lease, examine the files, and repair what can be repaired."""
        self._lease_problem = ""
        try:
            self._lease.beat()
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):  # the writer reports a full disk
                self._lease_problem = f"the sign of life cannot be written: {error.strerror}"
        self.look()
        if not self._trouble:
            self._check_foreign_writes()
        if self._trouble and time.monotonic() >= self._next_attempt:
            self._attempt()

    def look(self) -> None:
        """Compare the files with the open ones."""
        self._set(self.open_files.problem() or self._damage or self._lease.problem() or self._lease_problem)

    def _check_foreign_writes(self) -> None:
        """
        Check the main file if another program wrote to it, which may have copied something over it. The worker itself
        writes to the main file in checkpoints only.
        """
        before, self._last_write = self._last_write, (self.open_files.modified_ns(), self._checkpoints.steps)
        foreign = before[0] and before[0] != self._last_write[0] and before[1] == self._last_write[1]
        if not foreign or self._checkpoints.steps % 2:
            return
        problem = ""
        try:
            with closing(open_database(self._path, existing=True)) as connection:
                if self._path.stat().st_size <= QUICK_CHECK_BYTES:
                    (problem,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        except sqlite3.DatabaseError as error:
            if not isinstance(error, sqlite3.OperationalError):  # that is an error of the disk, not of the file
                problem = str(error)
        if problem not in ("", "ok") and not self.open_files.problem():
            self._damage = f"another program has written into {self._path}, which is damaged now"
            self.look()

    def _set(self, trouble: str) -> None:
        if trouble == self._trouble:
            return
        self._trouble = trouble
        self._pause_seconds, self._next_attempt = 1.0, 0.0
        if trouble and self.open_files.directory_is_same() and self.open_files.log_is_cut():
            with suppress(OSError):  # so that the next worker tells what it lacks
                damage_marker(self._path).touch(mode=0o600)
                damage_marker(self._path).write_text(trouble)
        broken = StoreBroken(trouble) if trouble else None
        self._writer.pause(broken)
        self._changed(broken)

    def _attempt(self) -> None:
        problem = self._trouble
        try:
            self._repair()
        except (Unusable, OSError, sqlite3.Error) as error:
            self._next_attempt = time.monotonic() + self._pause_seconds
            self._pause_seconds = min(2 * self._pause_seconds, MAX_PAUSE_SECONDS)
            if self._pause_seconds == 2.0:
                self._log.error("That cannot be repaired: {error}.", error=error)
        else:
            self.look()
            if not self._trouble:
                self._log.warn("{problem}; what it held was written anew, nothing is lost.", problem=problem)

    def _repair(self) -> None:
        if self.open_files.problem():
            self._check_may_write()
        if self._lease.problem():
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            unsafe = refusal_for_root(permission_problem_of(self._path.parent))
            if unsafe:
                raise Unusable(f"{self._path.parent} is {unsafe}")
            self._lease.retake()
        if self.open_files.problem():
            self._writer.with_connection(self._write_anew)
            damage_marker(self._path).unlink(missing_ok=True)
            self.open_files.remember()
            self._last_write = 0, 0
        if self._damage or self._lease_problem:
            raise Unusable(self._lease_problem or "a restart saves what can be read")

    def _check_may_write(self) -> None:
        """
        The store may be written into the same directory, or into an empty one if the original was deleted.

        Raises:
            Unusable: it is another directory, or there is another store in it.
        """
        if self.open_files.directory_is_same():
            return
        if not self._lease.directory_deleted:
            raise Unusable(
                f"the directory {self._path.parent} is somewhere else now: move it back, or restart the worker"
            )
        if self._path.exists():
            raise Unusable(f"{self._path} is another store")

    def _write_anew(self, connection: Connection) -> None:
        """
        Write everything that the connection reads to a new file under the old name, and connect it to that file.

        Closes all connections to the old file before it opens one to the new file, because SQLite removes a log by its
        name. If the new file cannot be opened then, the next call only opens it.
        """
        new = written_anew(self._path)
        if connection.is_open:
            try:
                _copy(connection.get(), new)
            except BaseException:
                new.unlink(missing_ok=True)  # the disk may be full
                raise
            self._set_foreign_files_aside()
        elif identity(str(self._path)) != self._anew:
            raise Unusable(f"{self._path} was written anew, and the file that is there now is another one")
        with self._reader.paused(READERS_SECONDS), self._checkpoints.paused():
            if connection.is_open:
                os.replace(new, self._path)
                self._anew = identity(str(self._path))
                connection.close()
                for suffix in SUFFIXES[1:]:
                    Path(f"{self._path}{suffix}").unlink(missing_ok=True)
            connection.get()

    def _set_foreign_files_aside(self) -> None:
        """Rename the files that took the place of the store's files; they are another program's, so none is removed."""
        if self._path.exists() and not self.open_files.is_same(str(self._path)):
            aside = free_name(f"{self._path}.replaced-{time.strftime('%Y%m%dT%H%M%S')}")
            for suffix in SUFFIXES:
                name = f"{self._path}{suffix}"
                if identity(name) is not None and not self.open_files.is_same(name):
                    os.replace(name, f"{aside}{suffix}")
            self._log.warn("The file that had replaced the store was moved to {aside}.", aside=aside)


def _copy(old: sqlite3.Connection, path: Path) -> None:
    for suffix in SUFFIXES:
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    create_file(path)
    with closing(open_database(path)) as copy:
        old.backup(copy)
    with closing(open_database(path)) as copy:
        (problem,) = copy.execute("PRAGMA quick_check(1)").fetchone()
        if problem != "ok":
            raise sqlite3.DatabaseError(
                f"what is left of the store is damaged ({problem}); a restart saves what it can"
            )
    for name in (path, path.parent):
        fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
