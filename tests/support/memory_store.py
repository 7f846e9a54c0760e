"""An implementation of ports.Store in memory. The bench uses it as a baseline."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from twisted.internet.defer import Deferred, succeed

from txworker.jobs import Job, JobSpec, Query, Retention
from txworker.jobs.errors import StoreBroken
from txworker.ports import Check, JobGenerator


class MemoryStore:
    """
    Keeps every record in memory. When `broken` is set it behaves as with a full disk: add() fails, other writes wait
    until repair() is called. When `slow` is set, add() waits until write_pending() is called.
    """

    def __init__(self) -> None:
        self.kept: dict[str, Job] = {}
        self.specs: dict[str, JobSpec] = {}
        self.removed: dict[str, float] = {}
        self._removed_numbers: set[int] = set()
        self.broken: StoreBroken | None = None
        self.slow = False
        self._pending: list[tuple[Job, Deferred[Job]]] = []
        self._blocked: list[tuple[Callable[[], object], Deferred[None]]] = []

    def add(self, job: Job) -> Deferred[Job]:
        answer: Deferred[Job] = Deferred()
        self._pending.append((job, answer))
        if not self.slow:
            self.write_pending()
        return answer

    def write_pending(self) -> None:
        """Finish the waiting calls of add()."""
        pending, self._pending = self._pending, []
        for job, answer in pending:
            if self.broken is not None:
                answer.errback(self.broken)
            else:
                before = self.with_request_id(job.spec.request_id) if job.spec.request_id else None
                if before is None:
                    self.specs[job.id] = job.spec
                    self.kept[job.id] = replace(job, spec=job.spec.shortened())
                answer.callback(before or job)

    def save(self, job: Job) -> Deferred[None]:
        return self._write(lambda: self.kept.update({job.id: replace(job, spec=job.spec.shortened())}))

    def drop(self, job: Job) -> Deferred[None]:
        self.specs.pop(job.id, None)
        return self._write(lambda: self.kept.pop(job.id, None))

    def remove(self, jobs: Collection[Job], at: float) -> Deferred[None]:
        for job in jobs:
            self.kept.pop(job.id)
            self.specs.pop(job.id, None)
            self.removed[job.id] = at
            self._removed_numbers.add(job.number)
        return succeed(None)

    def settle(self) -> None:
        if self.broken is not None:
            raise self.broken

    def repair(self) -> None:
        self.broken = None
        blocked, self._blocked = self._blocked, []
        for write, answer in blocked:
            write()
            answer.callback(None)

    def get(self, job_id: str) -> Job | None:
        return self.kept.get(job_id)

    def full_spec(self, job_id: str) -> JobSpec | None:
        return self.specs.get(job_id)

    def with_request_id(self, request_id: str) -> Job | None:
        return next((job for job in list(self.kept.values()) if job.spec.request_id == request_id), None)

    def newest_with_path(self, path: str) -> Job | None:
        return max(
            (job for job in self._finished() if job.spec.has_path(path)), key=lambda job: job.number, default=None
        )

    def removed_at(self, job_id: str) -> float | None:
        return self.removed.get(job_id)

    def unfinished(self) -> list[Job]:
        return sorted((job for job in self.kept.values() if not job.done), key=lambda job: job.number)

    def last(self) -> tuple[int, int]:
        jobs = self.kept.values()
        number = max([*(job.number for job in jobs), *self._removed_numbers], default=0)
        return number, max((job.revision for job in jobs), default=0)

    def finished_page(self, query: Query, before: int, most: int, check: Check = None) -> JobGenerator:
        found = [job for job in self._finished() if job.number < before and query.matches(job)]
        yield from sorted(found, key=lambda job: -job.number)[:most]

    def finished_between(
        self, beyond: int, upto: int, most: int, labels: Mapping[str, str] | None = None, check: Check = None
    ) -> JobGenerator:
        query = Query(labels=labels or {})
        found = [job for job in self._finished() if beyond < job.revision <= upto and query.matches(job)]
        yield from sorted(found, key=lambda job: job.revision)[:most]

    def expired(self, retention: Retention, elapsed: float, most: int) -> list[Job]:
        ended = sorted(self._finished(), key=lambda job: job.revision)
        found = []
        for index, job in enumerate(ended):
            rest = ended[index:]
            too_old = retention.days and _ended(job, elapsed) < elapsed - retention.days * 86_400
            too_many = retention.jobs and len(rest) > retention.jobs
            too_much = retention.output_bytes and sum(one.output_bytes for one in rest) > retention.output_bytes
            if not (too_old or too_many or too_much):
                break
            found.append(job)
        return found[:most]

    def _finished(self) -> list[Job]:
        return [job for job in list(self.kept.values()) if job.done]

    def _write(self, write: Callable[[], object]) -> Deferred[None]:
        if self.broken is None:
            write()
            return succeed(None)
        answer: Deferred[None] = Deferred()
        self._blocked.append((write, answer))
        return answer


def _ended(job: Job, otherwise: float) -> float:
    return job.ended_elapsed if job.ended_elapsed is not None else job.finished_at or otherwise
