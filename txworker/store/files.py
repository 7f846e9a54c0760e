"""Opens, checks and upgrades the store's file. A damaged file is set aside, so that the worker can always start."""

from __future__ import annotations

import errno
import itertools
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from txworker.base.directory import open_own
from txworker.base.logs import Logger
from txworker.base.quantities import counted
from txworker.store.errors import Unusable
from txworker.store.open_files import log_is_cut
from txworker.store.salvage import Salvaged, salvage, salvage_copy
from txworker.store.schema import ForeignFile, NewerSchema, check_ours, upgrade

BUSY_SECONDS = 5.0
"""How long a statement waits when another program locks the file."""

FULL_CHECK_BYTES = 64 * 1024 * 1024
"""
Up to this size every page is checked when the worker starts, which takes a fifth of a second at most. A larger file is
checked if an earlier worker found a damaged page in it.
"""

_ROOM_BYTES = 256 * 1024

_NUMBERS, _REVISIONS = 100_000, 1_000_000
"""More than a worker can use in the second between two beats of the lease, or than the damaged pages contained."""

_FORGOTTEN = (
    " Other jobs are forgotten: their output files are untouched, and a request with a requestID of theirs starts a "
    "new job."
)

_log = Logger()


class Highest(NamedTuple):
    """The highest number and the highest revision that a worker has used."""

    number: int = 0
    revision: int = 0


def joined(words: Sequence[str], max_words: int = 50) -> str:
    """The words for a log line, with a count in place of those beyond max_words."""
    more = f" and {len(words) - max_words} more" if len(words) > max_words else ""
    return ", ".join(words[:max_words]) + more


def connect(
    path: Path, fsync: bool = False, busy_seconds: float | None = None, existing: bool = False
) -> sqlite3.Connection:
    """
    A connection, for one thread at a time.

    fsync: a commit is on the disk, not only with the kernel.
    busy_seconds: how long a statement waits when another program locks the file; None: BUSY_SECONDS.
    existing: no file is created.

    Raises:
        sqlite3.Error: the file cannot be opened, or is not a database.
    """
    connection = open_database(path, busy_seconds, existing)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {'FULL' if fsync else 'NORMAL'}")
    connection.execute("PRAGMA wal_autocheckpoint = 0")  # checkpoints.py makes them
    connection.execute("PRAGMA cache_size = -1024")  # KiB
    return connection


def prepare(path: Path, highest: Highest | None = None, rebooted: bool = False) -> bool:
    """
    Leave a sound file of the newest schema at that path. For one process at a time.

    True: something was lost, because the file was damaged and set aside, or because an earlier worker's file is gone,
    or a part of its log; so it stays until forgot_marker() is removed. rebooted: the machine was restarted since an
    earlier worker. A process that is killed meanwhile loses nothing: the next one begins the repair again, or
    completes it.

    highest: what an earlier worker had used; None: there was none. Numbers and revisions continue above it.

    Raises:
        Unusable: the file is from a newer version, is not a store, or is damaged and there is no room to repair it.
        OSError, sqlite3.Error: the file cannot be created or written, or is not the worker's own file.
    """
    for unfinished in (_being_built(path), salvage_copy(path), written_anew(path)):
        _unlink(unfinished)
    _complete_repair(path)
    gone = highest is not None and not _size(path)
    log_cut = _log_was_cut(path, rebooted)
    create_file(path)
    for suffix in ("-wal", "-shm"):
        with suppress(FileNotFoundError):
            os.close(open_own(f"{path}{suffix}", os.O_RDWR))
    try:
        _check_and_upgrade(path, gone)
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):  # an error of the disk, not of the file
            raise
        _repair(path, error, highest or Highest())
        return True
    if gone or log_cut:
        create_file(forgot_marker(path))
    damage_marker(path).unlink(missing_ok=True)
    if highest is not None and gone:
        _log.error("The store {path} was empty or not there, though a worker was here before." + _FORGOTTEN, path=path)
        with _new_file(path, path) as connection:
            _continue_above(connection, highest)
    elif log_cut:
        _log.error(
            "The log of the store {path} was cut or deleted, and with it the newest records." + _FORGOTTEN, path=path
        )
    return forgot_marker(path).exists()


def _log_was_cut(path: Path, rebooted: bool) -> bool:
    """Now, or while an earlier worker ran, which wrote so into the marker."""
    if _size(damage_marker(path)):
        return True
    return not rebooted and log_is_cut(str(path))


def has_room(directory: Path) -> bool:
    """The disk has room for more than a few records. True when that cannot be found out."""
    try:
        disk = os.statvfs(directory)
    except OSError:
        return True
    blocks = disk.f_bavail if os.geteuid() else disk.f_bfree  # some file systems keep the last few percent for root
    return blocks * disk.f_frsize >= _ROOM_BYTES


def damage_marker(path: Path) -> Path:
    """
    A file that exists when a damaged page was found: then the next start checks every page. It is not empty when the
    log was cut.
    """
    return path.with_name(f"{path.name}.suspect")


def forgot_marker(path: Path) -> Path:
    """A file that exists from the moment when jobs are forgotten until a worker has settled what follows from that."""
    return path.with_name(f"{path.name}.forgot")


def written_anew(path: Path) -> Path:
    """The name of the store while file_watch.py writes it anew. A process that is killed leaves it behind."""
    return path.with_name(f"{path.name}.anew")


def open_database(path: Path, busy_seconds: float | None = None, existing: bool = False) -> sqlite3.Connection:
    """A connection with SQLite's own settings; the arguments are those of connect()."""
    seconds = BUSY_SECONDS if busy_seconds is None else busy_seconds
    name = f"{path.absolute().as_uri()}?mode={'rw' if existing else 'rwc'}"
    return sqlite3.connect(name, timeout=seconds, isolation_level=None, check_same_thread=False, uri=True)


def create_file(path: Path) -> None:
    """Create the file with mode 0600, if it is not there. SQLite gives the log and its index the same mode."""
    os.close(open_own(path, os.O_RDWR | os.O_CREAT))


def free_name(name: str) -> str:
    """The name if no file has it, else the name with a number appended, so that no file is overwritten."""
    names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    return next(name for name in names if not os.path.exists(name))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _check_and_upgrade(path: Path, gone: bool) -> None:
    """gone: the file is empty and will be replaced."""
    if gone:
        if _size(path.with_name(f"{path.name}-wal")):
            raise sqlite3.DatabaseError("it is empty, and its log is not")
        return
    try:
        with closing(open_database(path)) as connection:
            check_ours(connection)  # before anything is changed
        with closing(connect(path)) as connection:
            _check(connection, path)
            _upgrade(connection, path)
            _check_complete(connection)
    except (NewerSchema, ForeignFile) as error:
        raise Unusable(f"{path} {error}") from error


def _upgrade(connection: sqlite3.Connection, path: Path) -> None:
    """If it fails before it has changed anything, its copy goes: the disk may be full, and an older worker go on."""
    before = check_ours(connection)
    try:
        upgrade(connection, lambda version: _back_up(connection, path, version))
    except (sqlite3.Error, OSError):
        if check_ours(connection) == before:
            _unlink(_copy(path, before))
        raise


def _check(connection: sqlite3.Connection, path: Path) -> None:
    (blocked, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    size = os.stat(path).st_size
    pages, page_bytes = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
    if not blocked and size < pages * page_bytes:  # a reader blocks the checkpoint; then the log has the other pages
        raise sqlite3.DatabaseError(f"{size} bytes long, and should be {pages * page_bytes}")
    if size <= FULL_CHECK_BYTES or damage_marker(path).exists():
        (problem,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if problem != "ok":
            raise sqlite3.DatabaseError(problem)


def _check_complete(connection: sqlite3.Connection) -> None:
    """Whatever removed a table or an index from a file that is sound otherwise, the worker can do nothing with it."""
    sql = "SELECT name FROM sqlite_master"
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as new:
        upgrade(new, lambda version: None)
        missing = sorted(name for (name,) in {*new.execute(sql)} - {*connection.execute(sql)})
    if missing:
        raise sqlite3.DatabaseError(f"it lacks {', '.join(missing)}")


def _back_up(connection: sqlite3.Connection, path: Path, version: int) -> None:
    backup = _copy(path, version)
    _unlink(backup)
    create_file(backup)
    with closing(open_database(backup)) as copy:
        connection.backup(copy)
    _log.info(
        "The store is being upgraded from schema {version}; it was copied to {backup}.", version=version, backup=backup
    )


def _copy(path: Path, version: int) -> Path:
    """The store as it was before it was upgraded from that schema."""
    return path.with_name(f"{path.name}.schema-{version}")


def _being_built(path: Path) -> Path:
    return path.with_name(f"{path.name}.repair")


def _repaired(path: Path) -> Path:
    """A complete store that takes the place of a damaged one. It exists for a moment, or if a process was killed."""
    return path.with_name(f"{path.name}.repaired")


@contextmanager
def _new_file(path: Path, name: Path) -> Iterator[sqlite3.Connection]:
    """
    A store without jobs, to be filled. It gets its name once everything is on the disk; after an error it is removed.
    """
    new = _being_built(path)
    try:
        create_file(new)
        with closing(open_database(new)) as connection:  # all of it is in one file, which a rename moves
            connection.execute("PRAGMA journal_mode = MEMORY")
            connection.execute("PRAGMA synchronous = OFF")
            upgrade(connection, lambda version: None)
            yield connection
        _sync(new)
        os.replace(new, name)
        _sync(path.parent)
    finally:
        _unlink(new)


def _unlink(path: Path) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _repair(path: Path, error: sqlite3.Error, highest: Highest) -> None:
    """
    Save what can be read into a new file, and only then move the damaged one away.

    Raises:
        Unusable: the new file cannot be written. The damaged one is where it was.
    """
    damage = " ".join(str(error).split())
    try:
        with _new_file(path, _repaired(path)) as connection:
            salvaged = _salvage(path, connection)
            number, revision = max(highest.number, salvaged.number), max(highest.revision, salvaged.revision)
            _continue_above(connection, Highest(number, revision))
    except (sqlite3.OperationalError, OSError) as problem:
        why = problem.strerror if isinstance(problem, OSError) else problem
        text = f"{path} is damaged ({damage}), and what can be read of it cannot be saved: {why}; nothing was changed"
        raise Unusable(text) from problem
    aside = _set_aside(path)
    _log.error(
        "The store {path} is damaged ({error}) and was moved to {aside}. Records that could be read of it: {jobs} of "
        "jobs, {removed} of removed ones." + _FORGOTTEN,
        path=path,
        error=damage,
        aside=aside,
        jobs=salvaged.jobs,
        removed=salvaged.removed,
    )
    if salvaged.lost:
        text = "Records of {jobs} could not be read: {job_ids}."
        jobs = counted(len(salvaged.lost), "job", "jobs")
        _log.error(text, jobs=jobs, count=len(salvaged.lost), job_ids=joined(salvaged.lost))


def _salvage(path: Path, connection: sqlite3.Connection) -> Salvaged:
    """Raises sqlite3.OperationalError or OSError: the new file, or a copy of the damaged one, cannot be written."""
    try:
        return salvage(path, connection)
    except (sqlite3.Error, OSError) as problem:
        if isinstance(problem, sqlite3.OperationalError):
            raise
        if isinstance(problem, OSError) and problem.errno != errno.EIO:  # EIO: a part of the disk cannot be read
            raise
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        _log.error("Nothing could be read of {path}: {error}.", path=path, error=problem)
        return Salvaged()


def _complete_repair(path: Path) -> None:
    """If an earlier process was killed when it had repaired the store and not yet put it in its place."""
    if not _repaired(path).exists():
        return
    aside = _set_aside(path)
    text = "The store {path} was damaged, and the worker was killed while it repaired it. The repair is complete now: "
    text += "what could be read was saved, and the damaged file was moved to {aside}."
    _log.error(text + _FORGOTTEN, path=path, aside=aside)


def _set_aside(path: Path) -> str:
    """Rename the damaged file, and the repaired one to its name; the new name of the damaged one."""
    aside = free_name(f"{path}.damaged-{time.strftime('%Y%m%dT%H%M%S')}")
    for suffix in ("", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            os.replace(f"{path}{suffix}", f"{aside}{suffix}")
    damage_marker(path).unlink(missing_ok=True)
    create_file(forgot_marker(path))
    os.replace(_repaired(path), path)
    _sync(path.parent)
    return aside


def _continue_above(connection: sqlite3.Connection, highest: Highest) -> None:
    """Start above every number and revision that clients may have seen, known here or not."""
    floor = (highest.number + _NUMBERS, highest.revision + _REVISIONS)
    connection.execute("INSERT INTO floors (number, revision) VALUES (?, ?)", floor)
