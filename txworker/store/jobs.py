"""The store of jobs: written by one thread; records.py reads. What it promises is said in ports.Store."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from twisted.internet.defer import Deferred

from txworker.base.reactor import ClockWithThreads
from txworker.jobs import Job
from txworker.jobs.errors import StoreBroken
from txworker.store.batches import Kind
from txworker.store.checkpoints import Checkpoints
from txworker.store.custody import Custody
from txworker.store.elapsed import DAY_SECONDS
from txworker.store.errors import Unusable
from txworker.store.files import Told, connect, has_room, prepare, suspicion
from txworker.store.lease import Lease, take_lease
from txworker.store.reader import NotThere, Reader
from txworker.store.records import Records
from txworker.store.rows import (
    COLUMNS,
    INSERT,
    INSERT_FULL_SPEC,
    UPDATE,
    changed_row,
    job_from_row,
    labels_of,
    new_row,
    spec_from_text,
    spec_to_text,
)
from txworker.store.writer import Threaded, Turns, Writer

FILE_NAME = "jobs.sqlite3"
REMEMBERED = 1_000_000
"""So many removed jobs are told from jobs that never were."""

_ADD = Kind(refusable=True)
_ADD_ALONE = Kind(refusable=True, one_statement=True)
_LONGEST_WAIT = 10.0
_PATIENCE_SECONDS = 0.1
"""So long the reactor waits for another program that locks the file; then it tries again later."""


class JobStore(Records):
    """
    Every job in `<directory>/jobs.sqlite3`; the directory is this worker's alone as long as it is open.

    fsync: what is committed survives the machine, not only the worker. troubled(error) hears in the reactor thread
    that writing fails, and with None that it works again. lease: of the directory, if the caller has taken it already.

    Raises:
        Unusable: the worker cannot have this directory; the sentence says why.
    """

    def __init__(
        self,
        directory: Path,
        fsync: bool,
        reactor: ClockWithThreads,
        troubled: Callable[[StoreBroken | None], None],
        lease: Lease | None = None,
    ) -> None:
        path = directory / FILE_NAME
        self.lease = lease or take_lease(directory)
        try:
            before = self.lease.before
            try:
                self.forgot = prepare(path, Told(before.number, before.revision) if before else None)
            except BaseException:
                self.lease.close()
                raise
        except OSError as error:
            raise Unusable(f"{error.filename or directory}: {error.strerror}") from error
        except sqlite3.Error as error:
            raise Unusable(f"{path}: {error}") from error
        try:
            self._open(directory, path, fsync, reactor, troubled)
            self._bound_elapsed()
        except sqlite3.Error as error:
            self.lease.close()
            raise Unusable(f"{path}: {error}") from error

    def _open(
        self,
        directory: Path,
        path: Path,
        fsync: bool,
        reactor: ClockWithThreads,
        troubled: Callable[[StoreBroken | None], None],
    ) -> None:
        self._suspicion = suspicion(path)
        self._troubled = troubled
        super().__init__(Reader(self._connected_to_read, self._suspect))
        self._checkpoints = Checkpoints(lambda: connect(path, existing=True))
        self._writer: Writer
        self._path, self._name = path, str(path)
        self._heard_of: dict[str, StoreBroken | None] = {"writer": None, "files": None}

        def roomy() -> bool:
            return has_room(directory)

        def connected() -> sqlite3.Connection:
            if fsync:
                return connect(path, fsync=True, existing=True)
            return connect(path, patience_seconds=_PATIENCE_SECONDS, existing=True)

        if fsync:
            call = reactor.callFromThread
            self._writer = Threaded(connected, call, self._heard, self._checkpoints.wrote, roomy)
        else:
            self._writer = Turns(connected, reactor, self._heard, self._checkpoints.wrote, roomy)
        self._checkpoints.start()
        self._custody = Custody(
            path, self.lease, self._writer, self._reader, self._checkpoints, connected, self._heard_of_files
        )
        self._reader.open_one()

    def last(self) -> tuple[int, int]:
        """The highest number and the highest revision that were ever given, though the file be an older copy."""
        number, revision = super().last()
        return max(number, self.lease.number), max(revision, self.lease.revision)

    def beat(self) -> None:
        """Once a second: write down that the worker lives, and look after the files."""
        self._custody.beat()

    def _bound_elapsed(self) -> None:
        """Who finds no word of an earlier worker, but jobs, has the wall clock alone: as after the machine was off."""
        newest = None
        with suppress(StoreBroken):  # a damaged page: told of by the reader
            newest = self.newest_end()
        if newest is not None:
            unknown = self.lease.before is None
            self.lease.elapsed.bound(newest, newest + DAY_SECONDS if unknown else math.inf)

    def add(self, job: Job) -> Deferred[Job]:
        """Fires with the job once it is written, or else with the one that the same request id has brought before."""
        if not self._custody.place.is_ours(self._name):  # or it might be lost before the next beat notices
            self._custody.look()
        self.lease.number, self.lease.revision = job.number, job.revision
        alone = not job.spec.labels and job.spec.shortened().cut is None
        return self._writer.put(lambda connection: _add(connection, job), _ADD_ALONE if alone else _ADD)

    def save(self, job: Job) -> Deferred[None]:
        """Fires once it is written, however long that takes."""
        self.lease.revision = job.revision
        kind = Kind(hurry=job.done, one_statement=True, replaces=job.number)
        return self._writer.put(lambda connection: _update(connection, job), kind)

    def drop(self, job: Job) -> Deferred[None]:
        """Fires once a job that never came to be is gone."""
        return self._writer.put(lambda connection: _delete(connection, [job]))

    def remove(self, jobs: Collection[Job], at: float) -> Deferred[None]:
        """Fires once these jobs are gone, and remembered as removed."""
        return self._writer.put(lambda connection: _remove(connection, jobs, at))

    def settle(self) -> None:
        """
        Wait here until all that was put is written. Only before the reactor runs.

        Raises:
            StoreBroken: it cannot be written now, or not within ten seconds.
        """
        self._writer.settle(_LONGEST_WAIT)

    def close(self) -> Deferred[None]:
        """Write what there is and end; fires when that is done. What cannot be written now is given up."""
        self._checkpoints.close()
        return self._writer.close().addCallback(self._closed)

    def _heard(self, trouble: StoreBroken | None) -> None:
        if trouble is not None:
            self._suspect(trouble)
        self._tell("writer", trouble)

    def _heard_of_files(self, trouble: StoreBroken | None) -> None:
        self._tell("files", trouble)

    def _tell(self, whose: str, trouble: StoreBroken | None) -> None:
        """Both may be in trouble; it is over when neither is."""
        before = self._heard_of["files"] or self._heard_of["writer"]
        self._heard_of[whose] = trouble
        now = self._heard_of["files"] or self._heard_of["writer"]
        if str(now) != str(before):
            self._troubled(now)

    def _connected_to_read(self) -> sqlite3.Connection:
        if not self._custody.place.has_files():
            raise NotThere("the store's files are not where they were")
        return connect(self._path, existing=True)

    def _suspect(self, trouble: StoreBroken) -> None:
        if "malformed" in str(trouble):
            with suppress(OSError):
                self._suspicion.touch(mode=0o600)

    def _closed(self, _: object) -> None:
        self._reader.close()
        self.lease.close(in_order=True)


def _add(connection: sqlite3.Connection, job: Job) -> Job:
    if not connection.execute(INSERT, new_row(job)).rowcount:
        found = connection.execute(f"SELECT {COLUMNS} FROM jobs WHERE request_id = ?", (job.spec.request_id,))
        return job_from_row(found.fetchone())
    if job.spec.labels:
        connection.executemany("INSERT INTO labels (name, value, number) VALUES (?, ?, ?)", labels_of(job))
    if job.spec.shortened().cut is not None:
        connection.execute(INSERT_FULL_SPEC, (job.number, spec_to_text(job.spec)))
    return job


def _update(connection: sqlite3.Connection, job: Job) -> None:
    connection.execute(UPDATE, changed_row(job))


def _delete(connection: sqlite3.Connection, jobs: Collection[Job]) -> None:
    for job in jobs:
        labels = labels_of(_in_full(connection, job))
        connection.executemany("DELETE FROM labels WHERE name = ? AND value = ? AND number = ?", labels)
    numbers = [(job.number,) for job in jobs]
    connection.executemany("DELETE FROM orders WHERE number = ?", numbers)
    connection.executemany("DELETE FROM jobs WHERE number = ?", numbers)


def _in_full(connection: sqlite3.Connection, job: Job) -> Job:
    """With all of its labels."""
    if job.spec.cut is None or not job.spec.cut.labels:
        return job
    found = connection.execute("SELECT spec FROM orders WHERE number = ?", (job.number,)).fetchone()
    return job if found is None else replace(job, spec=spec_from_text(found[0]))


def _remove(connection: sqlite3.Connection, jobs: Collection[Job], at: float) -> None:
    _delete(connection, jobs)
    rows = [(job.number, job.id, at) for job in jobs]
    connection.executemany("INSERT OR REPLACE INTO removed (number, id, at) VALUES (?, ?, ?)", rows)
    connection.execute("DELETE FROM removed WHERE number < (SELECT max(number) FROM removed) - ?", (REMEMBERED,))
