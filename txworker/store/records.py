"""What can be asked of the store, from any thread."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from itertools import chain

from txworker.jobs import Job, JobSpec, JobState, Query, Retention
from txworker.store.reader import Reader
from txworker.store.rows import COLUMNS, job_from_row, spec_from_text

Labels = Mapping[str, str]
Check = Callable[[], None] | None

_DAY_SECONDS = 86_400
_FINISHED = [state for state in JobState if state.value >= JobState.SUCCEEDED.value]
_NONE: Labels = {}
_ALSO = " AND EXISTS (SELECT 1 FROM labels AS l WHERE l.name = ? AND l.value = ? AND l.number = jobs.number)"


class Records:
    """
    The records of all jobs as they were written last, with brief orders. Any thread.

    Jobs of which there may be many are read one by one, as they are asked for; check() is called meanwhile.

    Raises (from every method):
        StoreBroken: the file cannot be read.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def get(self, job_id: str) -> Job | None:
        """The record of that job."""
        return self._one("WHERE id = ?", job_id)

    def full_spec(self, job_id: str) -> JobSpec | None:
        """The whole order of that job, but for its stdin."""
        sql = "SELECT coalesce((SELECT spec FROM orders WHERE number = jobs.number), spec) FROM jobs WHERE id = ?"
        rows = self._reader.rows(sql, (job_id,))
        return spec_from_text(rows[0][0]) if rows else None

    def with_request_id(self, request_id: str) -> Job | None:
        """The job that was started for that request id."""
        return self._one("WHERE request_id = ?", request_id)

    def newest_with_path(self, path: str) -> Job | None:
        """The newest finished job that was started with that path."""
        end = "WHERE state >= 4 AND path <> '' AND path = ? ORDER BY number DESC LIMIT 1"
        return self._one(end, path)

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
            "SELECT max((SELECT coalesce(max(number), 0) FROM jobs), (SELECT coalesce(max(number), 0) FROM removed),"
            " (SELECT coalesce(max(number), 0) FROM floors)),"
            " max((SELECT coalesce(max(revision), 0) FROM jobs WHERE state >= 4),"
            " (SELECT coalesce(max(revision), 0) FROM jobs WHERE state < 4),"
            " (SELECT coalesce(max(revision), 0) FROM floors))"
        )
        number, revision = self._reader.rows(sql)[0]
        return number, revision

    def finished_page(self, query: Query, before: int, most: int, check: Check = None) -> Generator[Job, None, None]:
        """At most so many finished jobs of those that are meant, with numbers below `before`, highest first."""
        wanted = [state for state in _FINISHED if state in query.states] if query.states else _FINISHED
        if not wanted:
            return
        if query.labels:
            jobs = self._labelled(query.labels, wanted, before, most, check)
        elif len(wanted) == len(_FINISHED):
            end = "WHERE state >= 4 AND number < ? ORDER BY number DESC LIMIT ?"
            jobs = self._jobs(end, (before, most), check)
        else:
            jobs = self._in_states(wanted, before, most, check)
        yield from jobs

    def finished_between(
        self, beyond: int, upto: int, most: int, labels: Labels = _NONE, check: Check = None
    ) -> Generator[Job, None, None]:
        """At most so many jobs, with these labels, whose end has a revision beyond the one and up to the other."""
        end = f"WHERE state >= 4 AND revision > ? AND revision <= ?{_ALSO * len(labels)} ORDER BY revision LIMIT ?"
        return self._jobs(end, (beyond, upto, *chain.from_iterable(labels.items()), most), check)

    def expired(self, retention: Retention, elapsed: float, most: int) -> list[Job]:
        """At most so many finished jobs that are to be kept no longer at that time, the first to have ended first."""
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
        """When the last of the finished jobs ended, in the same time."""
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

    def _in_states(
        self, states: Sequence[JobState], before: int, most: int, check: Check
    ) -> Generator[Job, None, None]:
        """Each state's are read in their order from the index, and SQLite merges them."""
        parts = f" UNION ALL SELECT {COLUMNS} FROM jobs ".join(
            ["WHERE state >= 4 AND state = ? AND number < ?"] * len(states)
        )
        parameters = chain.from_iterable((state.value, before) for state in states)
        return self._jobs(f"{parts} ORDER BY number DESC LIMIT ?", (*parameters, most), check)

    def _labelled(
        self, labels: Labels, states: Sequence[JobState], before: int, most: int, check: Check
    ) -> Generator[Job, None, None]:
        first, *others = labels.items()
        end = (
            "JOIN labels AS first USING (number) WHERE first.name = ? AND first.value = ? AND first.number < ?"
            f" AND state IN ({', '.join('?' * len(states))}){_ALSO * len(others)} ORDER BY first.number DESC LIMIT ?"
        )
        more = chain.from_iterable(others)
        return self._jobs(end, (*first, before, *(state.value for state in states), *more, most), check)

    def _one(self, end: str, *parameters: str) -> Job | None:
        rows = self._reader.rows(f"SELECT {COLUMNS} FROM jobs {end}", parameters)
        return job_from_row(rows[0]) if rows else None

    def _jobs(self, end: str, parameters: Sequence[object] = (), check: Check = None) -> Generator[Job, None, None]:
        with closing(self._reader.each(f"SELECT {COLUMNS} FROM jobs {end}", parameters, check)) as rows:
            for row in rows:
                yield job_from_row(row)


def _ended(job: Job, otherwise: float) -> float:
    """An earlier worker knew the wall clock only, which is what elapsed time began as."""
    if job.ended_elapsed is not None:
        return job.ended_elapsed
    return otherwise if job.finished_at is None else job.finished_at
