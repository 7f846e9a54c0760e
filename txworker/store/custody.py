"""
Looking after the store's files while the worker runs: what others have done to them is noticed, told, and put right.

Until it is right nothing is written, so nothing is promised: new jobs are refused, ends are kept in memory. The open
connections still have everything that a deleted or replaced file held, so that it can be written anew.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from txworker.base.directory import permission_problem_of, refusal_for_root
from txworker.base.logs import Logger
from txworker.jobs.errors import StoreBroken
from txworker.store.checkpoints import Checkpoints
from txworker.store.errors import Unusable
from txworker.store.files import free_name, make, opened
from txworker.store.lease import Lease
from txworker.store.place import ENDINGS, Place, identity
from txworker.store.reader import Reader
from txworker.store.writer import Writer

MOST_PAUSE_SECONDS = 60.0
"""Between attempts to put it right, which are a second apart at first."""

LOOKED_THROUGH_BYTES = 16 * 1024 * 1024
"""Up to this size the file is looked through when another program has written into it: 50 ms at most."""

READERS_SECONDS = 2.0
"""So long the reactor waits for those who read just then."""


class Custody:
    """
    beat() once a second, look() whenever something is to be promised; reactor thread. changed(trouble) hears what is
    wrong, and None when it is right again. connect() opens what the writer writes with.
    """

    _log = Logger()

    def __init__(
        self,
        path: Path,
        lease: Lease,
        writer: Writer,
        reader: Reader,
        checkpoints: Checkpoints,
        connect: Callable[[], sqlite3.Connection],
        changed: Callable[[StoreBroken | None], None],
    ) -> None:
        self._path = path
        self._lease = lease
        self._writer = writer
        self._reader = reader
        self._checkpoints = checkpoints
        self._connect = connect
        self._changed = changed
        self.place = Place(path)
        self._trouble = ""
        self._no_beat = self._damaged = ""
        self._written = 0, 0
        self._pause_seconds = 1.0
        self._next_attempt = 0.0

    def beat(self) -> None:
        """Write down that the worker lives, look at the files, and put right what can be."""
        self._no_beat = ""
        try:
            self._lease.beat()
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):  # of a full disk the writer tells
                self._no_beat = f"the sign of life cannot be written: {error.strerror}"
        self.look()
        if not self._trouble:
            self._look_at_others_writing()
        if self._trouble and time.monotonic() >= self._next_attempt:
            self._attempt()

    def look(self) -> None:
        """Notice what has become of the files."""
        self._set(self.place.problem() or self._damaged or self._lease.problem() or self._no_beat)

    def _look_at_others_writing(self) -> None:
        """Only checkpoints write into the file; another program may have made one, or have copied something over it."""
        before, self._written = self._written, (self.place.written_at(), self._checkpoints.runs)
        others = before[0] and before[0] != self._written[0] and before[1] == self._written[1]
        if not others or self._checkpoints.runs % 2:
            return
        problem = ""
        try:
            with closing(opened(self._path, existing=True)) as connection:
                if self._path.stat().st_size <= LOOKED_THROUGH_BYTES:
                    (problem,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        except sqlite3.DatabaseError as error:
            if not isinstance(error, sqlite3.OperationalError):  # the disk, not the file
                problem = str(error)
        if problem not in ("", "ok") and not self.place.problem():
            self._damaged = f"another program has written into {self._path}, which is damaged now"
            self.look()

    def _set(self, trouble: str) -> None:
        if trouble == self._trouble:
            return
        self._trouble = trouble
        self._pause_seconds, self._next_attempt = 1.0, 0.0
        broken = StoreBroken(trouble) if trouble else None
        self._writer.hold(broken)
        self._changed(broken)

    def _attempt(self) -> None:
        problem = self._trouble
        try:
            self._put_right()
        except (Unusable, OSError, sqlite3.Error) as error:
            self._next_attempt = time.monotonic() + self._pause_seconds
            self._pause_seconds = min(2 * self._pause_seconds, MOST_PAUSE_SECONDS)
            if self._pause_seconds == 2.0:
                self._log.error("That cannot be put right: {error}.", error=error)
        else:
            self.look()
            if not self._trouble:
                self._log.warn("{problem}; what it held was written anew, nothing is lost.", problem=problem)

    def _put_right(self) -> None:
        if self.place.problem():
            self._check_ours()
        if self._lease.problem():
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            unsafe = refusal_for_root(permission_problem_of(self._path.parent))
            if unsafe:
                raise Unusable(f"{self._path.parent} is {unsafe}")
            self._lease.retake()
        if self.place.problem():
            self._writer.exchange(self._written_anew)
            self.place.remember()
            self._written = 0, 0
        if self._damaged or self._no_beat:
            raise Unusable(self._no_beat or "a restart saves what can be read")

    def _check_ours(self) -> None:
        """Only what is in a directory of ours, or in one that is empty where ours is no more, may be written over."""
        if self.place.has_directory():
            return
        if not self._lease.directory_deleted:
            raise Unusable(
                f"the directory {self._path.parent} is somewhere else now: move it back, or restart the worker"
            )
        if self._path.exists():
            raise Unusable(f"{self._path} is another store")

    def _written_anew(self, old: sqlite3.Connection) -> sqlite3.Connection:
        """
        All that the old connection sees, in a new file in the old one's place; a connection to that.

        Every connection to the old file is closed before there is one to the new: SQLite removes a log by its name.
        """
        anew = self._path.with_name(f"{self._path.name}.anew")
        try:
            _copy(old, anew)
        except BaseException:
            anew.unlink(missing_ok=True)  # a full disk has better use for it
            raise
        self._set_aside_others()
        with self._reader.paused(READERS_SECONDS), self._checkpoints.paused():
            os.replace(anew, self._path)
            old.close()
            for ending in ENDINGS[1:]:
                Path(f"{self._path}{ending}").unlink(missing_ok=True)
            return self._connect()

    def _set_aside_others(self) -> None:
        """What somebody has put in the place of our file is theirs: it is moved, not removed."""
        if self._path.exists() and not self.place.is_ours(str(self._path)):
            aside = free_name(f"{self._path}.replaced-{time.strftime('%Y%m%dT%H%M%S')}")
            for ending in ENDINGS:
                name = f"{self._path}{ending}"
                if identity(name) is not None and not self.place.is_ours(name):
                    os.replace(name, f"{aside}{ending}")
            self._log.warn("What was in the place of the store was moved to {aside}.", aside=aside)


def _copy(old: sqlite3.Connection, path: Path) -> None:
    for ending in ENDINGS:
        Path(f"{path}{ending}").unlink(missing_ok=True)
    make(path)
    with closing(opened(path)) as copy:
        old.backup(copy)
    with closing(opened(path)) as copy:
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
