"""The store of jobs: its writes, opening and closing. records.py has the queries, ports/store.py the promises."""

from __future__ import annotations

import math
import sqlite3
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from twisted.internet.defer import Deferred, fail

from txworker.base.reactor import ClockWithThreads
from txworker.jobs import Job
from txworker.jobs.errors import StoreBroken
from txworker.ports import NO_OBSERVER, Observer
from txworker.store.batches import Kind
from txworker.store.checkpoints import Checkpoints
from txworker.store.elapsed import DAY_SECONDS
from txworker.store.errors import Unusable
from txworker.store.file_watch import FileWatch
from txworker.store.files import Highest, connect, damage_marker, forgot_marker, has_room, prepare
from txworker.store.lease import Lease, take_lease
from txworker.store.reader import FilesReplaced, Reader
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
from txworker.store.writer import ReactorWriter, ThreadWriter, Writer

FILE_NAME = "jobs.sqlite3"

MAX_REMEMBERED = 1_000_000
"""How many removed jobs are remembered by their ids."""

_ADD = Kind(refusable=True)
_ADD_ROW = Kind(refusable=True, one_statement=True)

_SETTLE_SECONDS = 10.0

_REACTOR_BUSY_SECONDS = 0.1
"""How long the reactor waits when another program locks the file; then it retries later."""


class JobStore(Records):
    """
    Every job in `<directory>/jobs.sqlite3`. No other worker can use the directory while the store is open.

    fsync: a commit survives a crash of the machine, not only of the worker.
    troubled(error) is called in the reactor thread when writing or reading fails, and with None when both work again.
    observer: is told of every commit.
    lease: of the directory, if the caller has it already; the store closes it.
    forgot: jobs of an earlier worker were lost, because its file was damaged or gone; for every worker until one calls
    forgot_settled().

    Raises:
        Unusable: the worker cannot use this directory; the sentence says why.
    """

    def __init__(
        self,
        directory: Path,
        fsync: bool,
        reactor: ClockWithThreads,
        troubled: Callable[[StoreBroken | None], None],
        lease: Lease | None = None,
        observer: Observer = NO_OBSERVER,
    ) -> None:
        path = directory / FILE_NAME
        self.lease = lease or take_lease(directory)
        before = self.lease.before
        try:
            with _errors_as_unusable(path):
                highest = Highest(before.number, before.revision) if before else None
                self.forgot = prepare(path, highest, self.lease.rebooted)
                self._open(directory, path, fsync, reactor, troubled, observer)
                self._clamp_elapsed()
        except BaseException:
            self.lease.close()
            raise

    def _open(
        self,
        directory: Path,
        path: Path,
        fsync: bool,
        reactor: ClockWithThreads,
        troubled: Callable[[StoreBroken | None], None],
        observer: Observer,
    ) -> None:
        self._damage_marker = damage_marker(path)
        self._troubled = troubled
        self._reactor = reactor
        super().__init__(Reader(self._connect_to_read, self._reader_reported))
        self._probe = threading.Thread()
        self._checkpoints = Checkpoints(lambda: connect(path, existing=True))
        self._writer: Writer
        self._path, self._name = path, str(path)
        self._troubles: dict[str, StoreBroken | None] = {"files": None, "writer": None, "reader": None}
        changed, room = self._writer_trouble_changed, partial(has_room, directory)

        def committed(seconds: float) -> None:
            """The thread of the writer: its own, or the reactor's."""
            self._checkpoints.committed()
            observer.committed(seconds)

        def connect_writer() -> sqlite3.Connection:
            """For the writer: one that runs in the reactor thread may wait for a lock only briefly."""
            if fsync:
                return connect(path, fsync=True, existing=True)
            return connect(path, busy_seconds=_REACTOR_BUSY_SECONDS, existing=True)

        if fsync:
            self._writer = ThreadWriter(connect_writer, reactor.callFromThread, changed, committed, room)
        else:
            self._writer = ReactorWriter(connect_writer, reactor, changed, committed, room)
        self._checkpoints.start()
        self._file_watch = FileWatch(
            path, self.lease, self._writer, self._reader, self._checkpoints, self._file_trouble_changed
        )
        self._reader.open_one()

    def forgot_settled(self) -> None:
        """What follows from `forgot` is done, so no later worker need do it."""
        with suppress(OSError):  # then it is done once more, which does no harm
            forgot_marker(self._path).unlink(missing_ok=True)

    def last(self) -> tuple[int, int]:
        """The highest number and the highest revision that were ever used, even when the file is an older copy."""
        number, revision = super().last()
        return max(number, self.lease.number), max(revision, self.lease.revision)

    def beat(self) -> None:
        """
        Renew the lease, examine the files, and find out whether what could not be read can be now. Call it once a
        second; reactor thread.
        """
        self._file_watch.beat()
        if self._troubles["reader"] is not None and not self._probe.is_alive():
            self._probe = threading.Thread(target=self._reader.probe, name="txworker-store-probe", daemon=True)
            self._probe.start()

    def _clamp_elapsed(self) -> None:
        """
        Keep elapsed time from running back behind the last end. Without an earlier lease only the wall clock tells how
        long ago that was, so at most a day is counted, as after the machine was off.
        """
        newest = None
        with suppress(StoreBroken):  # a damaged page, which the reader has marked
            newest = self.newest_end()
        if newest is not None:
            unknown = self.lease.before is None
            self.lease.elapsed.clamp(newest, newest + DAY_SECONDS if unknown else math.inf)

    def add(self, job: Job) -> Deferred[Job]:
        """Fires with the job once it is written, or with the earlier job that has the same request id."""
        unreadable = self._troubles["reader"]
        if unreadable is not None:
            return fail(unreadable)
        if not self._file_watch.open_files.is_same(self._name):  # otherwise the job could be lost before the next beat
            self._file_watch.look()
        self.lease.number, self.lease.revision = job.number, job.revision
        only_a_row = not job.spec.labels and job.spec.shortened().cut is None
        return self._writer.put(lambda connection: _add(connection, job), _ADD_ROW if only_a_row else _ADD)

    def save(self, job: Job) -> Deferred[None]:
        """Fires once the record is written, however long that takes."""
        self.lease.revision = job.revision
        kind = Kind(urgent=job.done, one_statement=True, replaces=job.number)
        return self._writer.put(lambda connection: _update(connection, job), kind)

    def drop(self, job: Job) -> Deferred[None]:
        """Fires once a job that did not start is deleted."""
        return self._writer.put(lambda connection: _delete(connection, [job]))

    def remove(self, jobs: Collection[Job], at: float) -> Deferred[None]:
        """Fires once these jobs are deleted and remembered as removed."""
        return self._writer.put(lambda connection: _remove(connection, jobs, at))

    def settle(self) -> None:
        """
        Block until everything is written. Only before the reactor runs.

        Raises:
            StoreBroken: it cannot be written now, or not within ten seconds.
        """
        self._writer.settle(_SETTLE_SECONDS)

    def close(self) -> Deferred[None]:
        """Write what is pending, refuse what cannot be written, and close. Fires when that is done."""
        self._checkpoints.close()
        return self._writer.close().addCallback(self._closed)

    def _writer_trouble_changed(self, trouble: StoreBroken | None) -> None:
        if trouble is not None:
            self._mark_damage(trouble)
        self._trouble_changed("writer", trouble)

    def _reader_reported(self, trouble: StoreBroken | None) -> None:
        """Any thread."""
        if trouble is not None:
            self._mark_damage(trouble)
        self._reactor.callFromThread(self._reader_trouble_changed, trouble)

    def _reader_trouble_changed(self, trouble: StoreBroken | None) -> None:
        """The first trouble stands until it is over: queries may fail in different ways, as often as clients ask."""
        self._trouble_changed("reader", trouble and (self._troubles["reader"] or trouble))

    def _file_trouble_changed(self, trouble: StoreBroken | None) -> None:
        self._trouble_changed("files", trouble)

    def _trouble_changed(self, source: str, trouble: StoreBroken | None) -> None:
        """Several sources may have trouble at a time, of which the first is told; it ends when none has."""
        before = next(filter(None, self._troubles.values()), None)
        self._troubles[source] = trouble
        now = next(filter(None, self._troubles.values()), None)
        if str(now) != str(before):
            self._troubled(now)

    def _connect_to_read(self) -> sqlite3.Connection:
        if not self._file_watch.open_files.may_be_opened():
            raise FilesReplaced("the store's files are not where they were")
        return connect(self._path, existing=True)

    def _mark_damage(self, trouble: StoreBroken) -> None:
        if "malformed" in str(trouble):
            with suppress(OSError):
                self._damage_marker.touch(mode=0o600)

    def _closed(self, _: object) -> None:
        self._reader.close()
        self._file_watch.close()
        self.lease.close(in_order=True)


@contextmanager
def _errors_as_unusable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Unusable(f"{error.filename or path.parent}: {error.strerror}") from error
    except sqlite3.Error as error:
        raise Unusable(f"{path}: {error}") from error


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
        labels = labels_of(_with_full_spec(connection, job))
        connection.executemany("DELETE FROM labels WHERE name = ? AND value = ? AND number = ?", labels)
    numbers = [(job.number,) for job in jobs]
    connection.executemany("DELETE FROM orders WHERE number = ?", numbers)
    connection.executemany("DELETE FROM jobs WHERE number = ?", numbers)


def _with_full_spec(connection: sqlite3.Connection, job: Job) -> Job:
    """The job with all of its labels."""
    if job.spec.cut is None or not job.spec.cut.labels:
        return job
    found = connection.execute("SELECT spec FROM orders WHERE number = ?", (job.number,)).fetchone()
    return job if found is None else job.changed(spec=spec_from_text(found[0]))


def _remove(connection: sqlite3.Connection, jobs: Collection[Job], at: float) -> None:
    _delete(connection, jobs)
    rows = [(job.number, job.id, at) for job in jobs]
    connection.executemany("INSERT OR REPLACE INTO removed (number, id, at) VALUES (?, ?, ?)", rows)
    connection.execute("DELETE FROM removed WHERE number < (SELECT max(number) FROM removed) - ?", (MAX_REMEMBERED,))
