"""The store of jobs: written by one thread, read from any. What it promises is said in ports.Store."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from txworker.jobs import Job, JobState, Query, Retention
from txworker.jobs.errors import StoreBroken
from txworker.store.batches import Kind
from txworker.store.checkpoints import Checkpoints
from txworker.store.errors import Unusable
from txworker.store.files import connect, has_room, prepare, suspicion
from txworker.store.lease import Lease
from txworker.store.reader import Reader
from txworker.store.rows import COLUMNS, INSERT, UPDATE, changed_row, job_from_row, new_row
from txworker.store.writer import Threaded, Turns, Writer
from txworker.waiting import Clock

FILE_NAME = "jobs.sqlite3"
REMEMBERED = 1_000_000
"""So many removed jobs are told from jobs that never were."""

_ADD = Kind(refusable=True)
_ADD_ALONE = Kind(refusable=True, one_statement=True)
_DAY_SECONDS = 86_400
_LONGEST_WAIT = 10.0
_PATIENCE_SECONDS = 0.1
"""So long the reactor waits for another program that locks the file; then it tries again later."""


class ReactorOfStore(Clock, Protocol):
    """What is asked of the reactor."""

    def callFromThread(self, callable: Callable[..., Any], *args: Any) -> None:
        """Call it in the reactor thread, soon."""


class JobStore:
    """
    Every job in `<directory>/jobs.sqlite3`; the directory is this worker's alone as long as it is open.

    fsync: what is committed survives the machine, not only the worker. troubled(error) hears in the reactor thread
    that writing fails, and with None that it works again.

    Raises:
        Unusable: the worker cannot have this directory; the sentence says why.
    """

    def __init__(
        self,
        directory: Path,
        fsync: bool,
        reactor: ReactorOfStore,
        troubled: Callable[[StoreBroken | None], None],
    ) -> None:
        path = directory / FILE_NAME
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.lease = Lease(directory)
            emptied = self.lease.before is not None and not _holds_anything(path)
            try:
                self.forgot = prepare(path) or emptied  # what an earlier worker knew is not known any more
            except BaseException:
                self.lease.close()
                raise
        except OSError as error:
            raise Unusable(f"{error.filename or directory}: {error.strerror}") from error
        except sqlite3.Error as error:
            raise Unusable(f"{path}: {error}") from error
        self._suspicion = suspicion(path)
        self._troubled = troubled
        self._reader = Reader(lambda: connect(path), self._suspect)
        self._checkpoints = Checkpoints(lambda: connect(path))
        self._writer: Writer

        def roomy() -> bool:
            return has_room(directory)

        if fsync:
            call = reactor.callFromThread
            self._writer = Threaded(
                lambda: connect(path, fsync=True), call, self._heard, self._checkpoints.wrote, roomy
            )
        else:
            at_once = connect(path, patience_seconds=_PATIENCE_SECONDS)
            self._writer = Turns(lambda: at_once, reactor, self._heard, self._checkpoints.wrote, roomy)
        self._checkpoints.start()

    def add(self, job: Job) -> Deferred[Job]:
        """Fires with the job once it is written, or else with the one that the same request id has brought before."""
        return self._writer.put(lambda connection: _add(connection, job), _ADD if job.spec.labels else _ADD_ALONE)

    def save(self, job: Job) -> Deferred[None]:
        """Fires once it is written, however long that takes."""
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

    def get(self, job_id: str) -> Job | None:
        """The record of that job as it was written last. Any thread, like all that follow."""
        return next(self._jobs("WHERE id = ?", job_id), None)

    def with_request_id(self, request_id: str) -> Job | None:
        """The job that was started for that request id."""
        return next(self._jobs("WHERE request_id = ?", request_id), None)

    def newest_with_path(self, path: str) -> Job | None:
        """The newest finished job that was started with that path."""
        end = "WHERE state >= 4 AND path <> '' AND path = ? ORDER BY number DESC LIMIT 1"
        return next(self._jobs(end, path), None)

    def removed_at(self, job_id: str) -> float | None:
        """When retention removed that job."""
        rows = self._reader.rows("SELECT at FROM removed WHERE id = ?", (job_id,))
        return rows[0][0] if rows else None

    def unfinished(self) -> list[Job]:
        """Those that were not done when they were written last."""
        return list(self._jobs("WHERE state < 4 ORDER BY number"))

    def last(self) -> tuple[int, int]:
        """The highest number and the highest revision that were ever given."""
        sql = (
            "SELECT max((SELECT coalesce(max(number), 0) FROM jobs), (SELECT coalesce(max(number), 0) FROM removed)),"
            " max((SELECT coalesce(max(revision), 0) FROM jobs WHERE state >= 4),"
            " (SELECT coalesce(max(revision), 0) FROM jobs WHERE state < 4))"
        )
        number, revision = self._reader.rows(sql)[0]
        return number, revision

    def finished_page(self, query: Query, before: int, most: int) -> list[Job]:
        """At most so many finished jobs of those that are meant, with numbers below `before`, highest first."""
        states = [state for state in JobState if state.value >= JobState.SUCCEEDED.value]
        wanted = [state for state in states if state in query.states] if query.states else states
        if query.labels:
            return self._labelled(query, wanted, before, most)
        if len(wanted) == len(states):
            return list(self._jobs("WHERE state >= 4 AND number < ? ORDER BY number DESC LIMIT ?", before, most))
        found: list[Job] = []
        for state in wanted:
            end = "WHERE state >= 4 AND state = ? AND number < ? ORDER BY number DESC LIMIT ?"
            found += self._jobs(end, state.value, before, most)
        return sorted(found, key=lambda job: -job.number)[:most]

    def finished_between(self, beyond: int, upto: int, most: int) -> list[Job]:
        """At most so many jobs whose end has a revision beyond the one and up to the other, lowest first."""
        end = "WHERE state >= 4 AND revision > ? AND revision <= ? ORDER BY revision LIMIT ?"
        return list(self._jobs(end, beyond, upto, most))

    def expired(self, retention: Retention, now: float, most: int) -> list[Job]:
        """At most so many finished jobs that are to be kept no longer, the first to have ended first."""
        oldest = list(self._jobs("WHERE state >= 4 ORDER BY revision LIMIT ?", most))
        too_many, too_much = self._excess(retention)
        found = []
        for job in oldest:
            too_old = retention.days and (job.finished_at or now) < now - retention.days * _DAY_SECONDS
            if not (too_old or too_many > 0 or too_much > 0):
                break
            found.append(job)
            too_many -= 1
            too_much -= job.output_bytes
        return found

    def _excess(self, retention: Retention) -> tuple[int, int]:
        if not (retention.jobs or retention.output_bytes):
            return 0, 0
        count, size = self._reader.rows("SELECT count(*), total(output_bytes) FROM jobs WHERE state >= 4")[0]
        return (
            count - retention.jobs if retention.jobs else 0,
            int(size) - retention.output_bytes if retention.output_bytes else 0,
        )

    def _labelled(self, query: Query, states: list[JobState], before: int, most: int) -> list[Job]:
        (name, value), *others = query.labels.items()
        also = " AND EXISTS (SELECT 1 FROM labels AS l WHERE l.name = ? AND l.value = ? AND l.number = jobs.number)"
        end = (
            "JOIN labels AS first USING (number) WHERE first.name = ? AND first.value = ? AND first.number < ?"
            f" AND state IN ({', '.join('?' * len(states))}){also * len(others)} ORDER BY first.number DESC LIMIT ?"
        )
        more = [word for pair in others for word in pair]
        return list(self._jobs(end, name, value, before, *(state.value for state in states), *more, most))

    def _jobs(self, end: str, *parameters: object) -> Iterator[Job]:
        return map(job_from_row, self._reader.rows(f"SELECT {COLUMNS} FROM jobs {end}", parameters))

    def _heard(self, trouble: StoreBroken | None) -> None:
        if trouble is not None:
            self._suspect(trouble)
        self._troubled(trouble)

    def _suspect(self, trouble: StoreBroken) -> None:
        if "malformed" in str(trouble):
            with suppress(OSError):
                self._suspicion.touch(mode=0o600)

    def _closed(self, _: object) -> None:
        self._reader.close()
        self.lease.close()


def _holds_anything(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


def _add(connection: sqlite3.Connection, job: Job) -> Job:
    if not connection.execute(INSERT, new_row(job)).rowcount:
        found = connection.execute(f"SELECT {COLUMNS} FROM jobs WHERE request_id = ?", (job.spec.request_id,))
        return job_from_row(found.fetchone())
    if job.spec.labels:
        rows = [(name, value, job.number) for name, value in job.spec.labels.items()]
        connection.executemany("INSERT INTO labels (name, value, number) VALUES (?, ?, ?)", rows)
    return job


def _update(connection: sqlite3.Connection, job: Job) -> None:
    connection.execute(UPDATE, changed_row(job))


def _delete(connection: sqlite3.Connection, jobs: Collection[Job]) -> None:
    labels = [(name, value, job.number) for job in jobs for name, value in job.spec.labels.items()]
    connection.executemany("DELETE FROM labels WHERE name = ? AND value = ? AND number = ?", labels)
    connection.executemany("DELETE FROM jobs WHERE number = ?", [(job.number,) for job in jobs])


def _remove(connection: sqlite3.Connection, jobs: Collection[Job], at: float) -> None:
    _delete(connection, jobs)
    rows = [(job.number, job.id, at) for job in jobs]
    connection.executemany("INSERT OR REPLACE INTO removed (number, id, at) VALUES (?, ?, ?)", rows)
    connection.execute("DELETE FROM removed WHERE number < (SELECT max(number) FROM removed) - ?", (REMEMBERED,))
