"""A store that lasts as long as the worker's process."""

from __future__ import annotations

from collections.abc import Iterable

from twisted.internet.defer import Deferred, succeed

from txworker.jobs import Job


class MemoryStore:
    """Keeps every record in memory. Written by the reactor thread, read by any."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}
        self._by_path: dict[str, str] = {}
        self._by_request_id: dict[str, str] = {}

    def save(self, job: Job) -> Deferred[None]:
        """Fires at once: the record is as safe as it gets here."""
        if job.id not in self._jobs:
            self._by_path[job.spec.path] = job.id
            if job.spec.request_id:
                self._by_request_id[job.spec.request_id] = job.id
        self._jobs[job.id] = job
        return succeed(None)

    def get(self, job_id: str) -> Job | None:
        """The record of that job."""
        return self._jobs.get(job_id)

    def newest_with_path(self, path: str) -> Job | None:
        """The newest job started with that path."""
        return self._jobs.get(self._by_path.get(path, ""))

    def with_request_id(self, request_id: str) -> Job | None:
        """The job that was started for that request id."""
        return self._jobs.get(self._by_request_id.get(request_id, ""))

    def jobs(self) -> Iterable[Job]:
        """Every record, oldest first."""
        return list(self._jobs.values())
