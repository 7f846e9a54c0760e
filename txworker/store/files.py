"""The store's file: opened, looked at, upgraded; one that is damaged is set aside, and never stands in the way."""

from __future__ import annotations

import itertools
import os
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

from txworker.base.directory import open_own
from txworker.base.logs import Logger
from txworker.store.errors import Unusable
from txworker.store.salvage import Saved, salvage
from txworker.store.schema import ForeignFile, NewerSchema, check_ours, upgrade

_BUSY_SECONDS = 5.0
_ROOM_BYTES = 256 * 1024
_LOOKED_THROUGH_BYTES = 64 * 1024 * 1024
"""
Up to this size every page is looked at when the worker starts; that takes a fifth of a second at most. A larger file
is looked through when there is a suspicion.
"""

_NUMBERS, _REVISIONS = 100_000, 1_000_000
"""More than a worker can give in the second between two signs of life, or in what the damaged pages held."""

_FORGOTTEN = (
    " Other jobs are forgotten: their output files are untouched, and an order with a requestID of theirs starts a "
    "new job."
)

_log = Logger()


class Told(NamedTuple):
    """The highest number and the highest revision that a worker has given."""

    number: int = 0
    revision: int = 0


def some(words: Sequence[str], most: int = 50) -> str:
    """As many of them as find room in a line."""
    more = f" and {len(words) - most} more" if len(words) > most else ""
    return ", ".join(words[:most]) + more


def connect(
    path: Path, fsync: bool = False, patience_seconds: float | None = None, existing: bool = False
) -> sqlite3.Connection:
    """
    A connection for one thread at a time. fsync: a commit is on the disk, not only with the kernel. patience_seconds:
    how long it waits when another program locks the file. existing: no file is made.

    Raises:
        sqlite3.Error: the file cannot be opened, or is none of SQLite's.
    """
    connection = opened(path, patience_seconds, existing)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {'FULL' if fsync else 'NORMAL'}")
    connection.execute("PRAGMA wal_autocheckpoint = 0")  # checkpoints.py
    connection.execute("PRAGMA cache_size = -1024")  # KiB
    return connection


def prepare(path: Path, told: Told | None = None) -> bool:
    """
    Leave a sound file of the newest schema at that path; whether something was lost, for which a damaged file was set
    aside, or which nobody knows the whereabouts of. For one process at a time.

    told: what an earlier worker had come to, None: there was none. Numbers and revisions go on above it.

    Raises:
        Unusable: the file is from a newer version, or is not ours.
        OSError, sqlite3.Error: nothing can be made or written there, or what is there is none of the worker's files.
    """
    gone = told is not None and not _size(path)
    make(path)
    for ending in ("-wal", "-shm"):
        with suppress(FileNotFoundError):
            os.close(open_own(f"{path}{ending}", os.O_RDWR))
    try:
        _look_at(path, gone)
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):  # the disk, not the file
            raise
        aside = _set_aside(path, error)
        suspicion(path).unlink(missing_ok=True)
        make(path)
        _look_at(path)
        _save(path, aside, error, told or Told())
        return True
    suspicion(path).unlink(missing_ok=True)
    if told is not None and gone:
        _log.error("The store {path} was empty or not there, though a worker was here before." + _FORGOTTEN, path=path)
        with closing(connect(path)) as connection:
            _go_on_above(connection, told)
    return gone


def has_room(directory: Path) -> bool:
    """More than a few records fit there. True where nobody can tell."""
    try:
        disk = os.statvfs(directory)
    except OSError:
        return True
    blocks = disk.f_bavail if os.geteuid() else disk.f_bfree  # some file systems keep the last few percent for root
    return blocks * disk.f_frsize >= _ROOM_BYTES


def suspicion(path: Path) -> Path:
    """A file that is there when a page of the store was found to be damaged: the next start looks at all of them."""
    return path.with_name(f"{path.name}.suspect")


def opened(path: Path, patience_seconds: float | None = None, existing: bool = False) -> sqlite3.Connection:
    """A connection as SQLite makes it; with `existing` it makes no file."""
    seconds = _BUSY_SECONDS if patience_seconds is None else patience_seconds
    name = f"{path.absolute().as_uri()}?mode={'rw' if existing else 'rwc'}"
    return sqlite3.connect(name, timeout=seconds, isolation_level=None, check_same_thread=False, uri=True)


def make(path: Path) -> None:
    """For nobody else; SQLite gives what it puts beside a file the file's own mode."""
    os.close(open_own(path, os.O_RDWR | os.O_CREAT))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _look_at(path: Path, gone: bool = False) -> None:
    if gone and _size(path.with_name(f"{path.name}-wal")):
        raise sqlite3.DatabaseError("it is empty, and its log is not")
    try:
        with closing(opened(path)) as connection:
            check_ours(connection)  # before anything is changed
        with closing(connect(path)) as connection:
            _check(connection, path)
            upgrade(connection, lambda version: _back_up(connection, path, version))
    except (NewerSchema, ForeignFile) as error:
        raise Unusable(f"{path} {error}") from error


def _check(connection: sqlite3.Connection, path: Path) -> None:
    (held_up, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    size = os.stat(path).st_size
    pages, page_bytes = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
    if not held_up and size < pages * page_bytes:  # somebody who reads holds it up: then the log has the rest
        raise sqlite3.DatabaseError(f"{size} bytes long, and should be {pages * page_bytes}")
    if size <= _LOOKED_THROUGH_BYTES or suspicion(path).exists():
        (problem,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if problem != "ok":
            raise sqlite3.DatabaseError(problem)


def _back_up(connection: sqlite3.Connection, path: Path, version: int) -> None:
    backup = path.with_name(f"{path.name}.schema-{version}")
    backup.unlink(missing_ok=True)
    make(backup)
    with closing(opened(backup)) as copy:
        connection.backup(copy)
    _log.info(
        "The store is being upgraded from schema {version}; it was copied to {backup}.", version=version, backup=backup
    )


def _set_aside(path: Path, error: sqlite3.Error) -> Path:
    aside = free_name(f"{path}.damaged-{time.strftime('%Y%m%dT%H%M%S')}")
    for ending in ("", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            os.replace(f"{path}{ending}", f"{aside}{ending}")
    return Path(aside)


def _save(path: Path, aside: Path, error: sqlite3.Error, told: Told) -> None:
    with closing(connect(path)) as connection:
        saved = Saved()
        try:
            saved = salvage(aside, connection)
        except (sqlite3.Error, OSError) as problem:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            _log.error("Nothing could be read of {aside}: {error}.", aside=aside, error=problem)
        _go_on_above(connection, Told(max(told.number, saved.number), max(told.revision, saved.revision)))
    _log.error(
        "The store {path} is damaged ({error}) and was moved to {aside}. Records that could be read of it: {jobs} of "
        "jobs, {removed} of removed ones." + _FORGOTTEN,
        path=path,
        error=" ".join(str(error).split()),
        aside=aside,
        jobs=saved.jobs,
        removed=saved.removed,
    )
    if saved.lost:
        text = "Records of {count} jobs could not be read: {job_ids}."
        _log.error(text, count=len(saved.lost), job_ids=some(saved.lost))


def _go_on_above(connection: sqlite3.Connection, told: Told) -> None:
    """What was told after the last that is known is less than that."""
    floor = (told.number + _NUMBERS, told.revision + _REVISIONS)
    connection.execute("INSERT INTO floors (number, revision) VALUES (?, ?)", floor)


def free_name(name: str) -> str:
    """That name, or with a number behind it: nothing that was set aside is lost."""
    names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    return next(name for name in names if not os.path.exists(name))
