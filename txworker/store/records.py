"""What can be asked of the store, from any thread."""

from __future__ import annotations

from collections.abc import Iterator

from txworker.jobs import Job, JobState, Query, Retention
from txworker.store.reader import Reader
from txworker.store.rows import COLUMNS, job_from_row

_DAY_SECONDS = 86_400


class Records:
    """
    The records of all jobs as they were written last. Any thread.

    Raises (from every method):
        StoreBroken: the file cannot be read.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def get(self, job_id: str) -> Job | None:
        """The record of that job."""
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
