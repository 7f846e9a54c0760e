"""The queries of the store. Any thread."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from itertools import chain

from txworker.jobs import Job, JobSpec, JobState, Query, Retention
from txworker.jobs.query import BEYOND_NEWEST
from txworker.store.reader import Reader
from txworker.store.rows import COLUMNS, job_from_row, spec_from_text
from txworker.store.selection import (
    BY_ID,
    BY_TIME,
    COUNT_WINDOW,
    HIGHEST_IN_WINDOW,
    IN_WINDOW,
    NARROW,
    id_range,
    window,
)

Labels = Mapping[str, str]
Check = Callable[[], None] | None

_DAY_SECONDS = 86_400
_FINISHED = [state for state in JobState if state.value >= JobState.SUCCEEDED.value]
_NO_LABELS: Labels = {}
_AND_LABEL = " AND EXISTS (SELECT 1 FROM labels AS l WHERE l.name = ? AND l.value = ? AND l.number = jobs.number)"


class Records:
    """
    The records of all jobs as they were last written, with shortened specs. Any thread.

    Methods that may return many jobs are generators that read row by row. check() is called now and then meanwhile, and
    what it raises ends the query.

    Raises (from every method):
        StoreBroken: the file cannot be read.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def get(self, job_id: str) -> Job | None:
        """The record of the job with that id."""
        return self._one("WHERE id = ?", job_id)

    def full_spec(self, job_id: str) -> JobSpec | None:
        """The full spec of that job, without its stdin."""
        sql = "SELECT coalesce((SELECT spec FROM orders WHERE number = jobs.number), spec) FROM jobs WHERE id = ?"
        rows = self._reader.rows(sql, (job_id,))
        return spec_from_text(rows[0][0]) if rows else None

    def with_request_id(self, request_id: str) -> Job | None:
        """The job that was added with that request id."""
        return self._one("WHERE request_id = ?", request_id)

    def newest_with_path(self, path: str) -> Job | None:
        """The newest finished job with that path."""
        end = "WHERE state >= 4 AND path <> '' AND path = ? ORDER BY number DESC LIMIT 1"
        return self._one(end, path)

    def removed_at(self, job_id: str) -> float | None:
        """When retention removed that job; None: it did not, or it no longer knows."""
        rows = self._reader.rows("SELECT at FROM removed WHERE id = ?", (job_id,))
        return rows[0][0] if rows else None

    def unfinished(self) -> list[Job]:
        """Jobs with a last record that is not done, lowest number first."""
        return list(self._jobs("WHERE state < 4 ORDER BY number"))

    def last(self) -> tuple[int, int]:
        """The highest number and the highest revision that were ever used."""
        sql = (
            "SELECT max((SELECT coalesce(max(number), 0) FROM jobs), (SELECT coalesce(max(number), 0) FROM removed),"
            " (SELECT coalesce(max(number), 0) FROM floors)),"
            " max((SELECT coalesce(max(revision), 0) FROM jobs WHERE state >= 4),"
            " (SELECT coalesce(max(revision), 0) FROM jobs WHERE state < 4),"
            " (SELECT coalesce(max(revision), 0) FROM floors))"
        )
        number, revision = self._reader.rows(sql)[0]
        return number, revision

    def finished_page(self, query: Query, before: int, most: int, check: Check = None) -> Generator[Job, None, None]:
        """The `most` newest finished jobs that match the query and have numbers below `before`, newest first."""
        wanted = [state for state in _FINISHED if state in query.states] if query.states else _FINISHED
        if not wanted or query.owner:  # no job has an owner
            return
        if query.id_prefix:
            jobs = self._among(BY_ID, id_range(query.id_prefix), query, wanted, before, most, check)
        elif query.has_window and self._is_narrow(query, before, check):
            jobs = self._among(BY_TIME, window(query), query, wanted, before, most, check)
        else:
            if query.until is not None and before == BEYOND_NEWEST:  # a later page begins inside the window
                before = self._number(HIGHEST_IN_WINDOW, window(query), check) + 1
            jobs = self._in_order(query, wanted, before, most, check)
        yield from jobs

    def finished_between(
        self, beyond: int, upto: int, most: int, labels: Labels = _NO_LABELS, check: Check = None
    ) -> Generator[Job, None, None]:
        """The first `most` jobs with these labels that ended with a revision beyond `beyond` and up to `upto`."""
        end = f"WHERE state >= 4 AND revision > ? AND revision <= ?{_AND_LABEL * len(labels)} ORDER BY revision LIMIT ?"
        return self._jobs(end, (beyond, upto, *chain.from_iterable(labels.items()), most), check)

    def expired(self, retention: Retention, elapsed: float, most: int) -> list[Job]:
        """At most `most` finished jobs that retention removes at that elapsed time; those that ended first, first."""
        too_many, too_much = self._excess(retention)
        found = []
        for job in self._jobs("WHERE state >= 4 ORDER BY revision LIMIT ?", (most,)):
            too_old = retention.days and _ended(job, elapsed) < elapsed - retention.days * _DAY_SECONDS
            if not (too_old or too_many > 0 or too_much > 0):
                break
            found.append(job)
            too_many -= 1
            too_much -= job.output_bytes
        return found

    def newest_end(self) -> float | None:
        """When the last finished job ended, in elapsed time; None: there is none."""
        ended = self._one("WHERE state >= 4 ORDER BY revision DESC LIMIT 1")
        return None if ended is None else _ended(ended, 0.0)

    def _excess(self, retention: Retention) -> tuple[int, int]:
        if not (retention.jobs or retention.output_bytes):
            return 0, 0
        count, size = self._reader.rows("SELECT count(*), total(output_bytes) FROM jobs WHERE state >= 4")[0]
        return (
            count - retention.jobs if retention.jobs else 0,
            int(size) - retention.output_bytes if retention.output_bytes else 0,
        )

    def _is_narrow(self, query: Query, before: int, check: Check) -> bool:
        """Few jobs of the query's window are left below that number."""
        return self._number(COUNT_WINDOW, (*window(query), before), check) < NARROW

    def _number(self, sql: str, parameters: Sequence[object], check: Check) -> int:
        """The answer to a question for one number; 0 for NULL."""
        with closing(self._reader.iterate(sql, parameters, check)) as rows:
            number: int | None = next(rows)[0]
        return number or 0

    def _among(
        self,
        selected: str,
        by: Sequence[object],
        query: Query,
        states: Sequence[JobState],
        before: int,
        most: int,
        check: Check,
    ) -> Generator[Job, None, None]:
        """The jobs that the query selects among those that one index finds by that condition."""
        end = (
            f"WHERE number IN (SELECT number FROM jobs WHERE {selected} AND number < ?){IN_WINDOW}"
            f" AND +state IN ({', '.join('?' * len(states))}){_AND_LABEL * len(query.labels)}"
            " ORDER BY number DESC LIMIT ?"
        )
        labels = chain.from_iterable(query.labels.items())
        parameters = (*by, before, *window(query), *(state.value for state in states), *labels, most)
        return self._jobs(end, parameters, check)

    def _in_order(
        self, query: Query, states: Sequence[JobState], before: int, most: int, check: Check
    ) -> Generator[Job, None, None]:
        """Read in the order of numbers until enough match."""
        also, bounds = (IN_WINDOW, window(query)) if query.has_window else ("", ())
        if query.labels:
            return self._labelled(query.labels, states, before, most, check, also, bounds)
        if len(states) == len(_FINISHED):
            end = f"WHERE state >= 4 AND number < ?{also} ORDER BY number DESC LIMIT ?"
            return self._jobs(end, (before, *bounds, most), check)
        return self._in_states(states, before, most, check, also, bounds)

    def _in_states(
        self,
        states: Sequence[JobState],
        before: int,
        most: int,
        check: Check,
        also: str,
        bounds: Sequence[float],
    ) -> Generator[Job, None, None]:
        """SQLite reads the jobs of each state in order from the index and merges them."""
        parts = f" UNION ALL SELECT {COLUMNS} FROM jobs ".join(
            [f"WHERE state >= 4 AND state = ? AND number < ?{also}"] * len(states)
        )
        parameters = chain.from_iterable((state.value, before, *bounds) for state in states)
        return self._jobs(f"{parts} ORDER BY number DESC LIMIT ?", (*parameters, most), check)

    def _labelled(
        self,
        labels: Labels,
        states: Sequence[JobState],
        before: int,
        most: int,
        check: Check,
        also: str,
        bounds: Sequence[float],
    ) -> Generator[Job, None, None]:
        first, *others = labels.items()
        end = (
            "JOIN labels AS first USING (number) WHERE first.name = ? AND first.value = ? AND first.number < ?"
            f" AND state IN ({', '.join('?' * len(states))}){also}{_AND_LABEL * len(others)}"
            " ORDER BY first.number DESC LIMIT ?"
        )
        more = chain.from_iterable(others)
        return self._jobs(end, (*first, before, *(state.value for state in states), *bounds, *more, most), check)

    def _one(self, end: str, *parameters: str) -> Job | None:
        rows = self._reader.rows(f"SELECT {COLUMNS} FROM jobs {end}", parameters)
        return job_from_row(rows[0]) if rows else None

    def _jobs(self, end: str, parameters: Sequence[object] = (), check: Check = None) -> Generator[Job, None, None]:
        with closing(self._reader.iterate(f"SELECT {COLUMNS} FROM jobs {end}", parameters, check)) as rows:
            for row in rows:
                yield job_from_row(row)


def _ended(job: Job, otherwise: float) -> float:
    """Versions without elapsed time recorded the wall clock, and elapsed time starts at its value."""
    if job.ended_elapsed is not None:
        return job.ended_elapsed
    return otherwise if job.finished_at is None else job.finished_at
