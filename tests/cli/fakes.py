"""A client of no worker: it has fixed answers, and remembers what it was asked."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from typing import Any

from txworker.client import JobRecord, JobState, NoSuchJob, WorkerError
from txworker.client.values import LiveUsage, record_of
from txworker.pb import worker_pb2 as pb


class FakeClient:
    """
    Its jobs, newest first; a watch tells them, and then the events. errors: by job id, raised by whatever is asked of
    it. Every start is of the job `started`. It is handed to commands as Any.
    """

    addr = "127.0.0.1:30000"

    def __init__(
        self,
        jobs: Iterable[pb.Job] = (),
        events: Iterable[pb.Job] = (),
        errors: Mapping[str, WorkerError] | None = None,
        started: str = "a",
        output: Iterable[bytes] = (),
        usages: Mapping[str, LiveUsage] | None = None,
    ) -> None:
        self.all = list(jobs)
        self.events = list(events)
        self.errors = dict(errors or {})
        self.started = started
        self.output = list(output)
        self.usages = dict(usages or {})
        self.asked: list[Any] = []
        self.stopped: list[tuple[str, float | None]] = []
        self.waited: list[str] = []
        self.signalled: list[tuple[str, int]] = []
        self.renewed: list[str] = []

    def start(self, command: str, path: str = "", **details: Any) -> FakeJob:
        self.asked.append((command, path, details))
        return FakeJob(self, self.started)

    def get(self, job_id: str) -> JobRecord:
        self.asked.append(job_id)
        self._check(job_id)
        for job in self.all:
            if job.jobID == job_id:
                return record_of(job)
        raise NoSuchJob(f"there is no job {job_id!r} on this worker", "JOB_NOT_FOUND", "NOT_FOUND")

    def stop(self, job_id: str, grace: float | None = None, wait: bool = False) -> JobRecord:
        self._check(job_id)
        self.stopped.append((job_id, grace))
        return record_of(pb.Job(jobID=job_id))

    def signal(self, job_id: str, number: int) -> None:
        self._check(job_id)
        self.signalled.append((job_id, number))

    def renew(self, job_ids: Iterable[str]) -> list[str]:
        self.renewed = list(job_ids)
        running = {job.jobID for job in self.all if not record_of(job).done}
        return [job_id for job_id in self.renewed if job_id not in running]

    def usage(self, job_ids: Iterable[str] = ()) -> dict[str, LiveUsage]:
        return {job_id: usage for job_id, usage in self.usages.items() if job_id in (list(job_ids) or self.usages)}

    def wait(self, job_id: str) -> JobRecord:
        self.waited.append(job_id)
        return record_of(pb.Job(jobID=job_id, state=pb.JOB_STATE_STOPPED))

    def job(self, job_id: str) -> FakeJob:
        return FakeJob(self, job_id)

    def jobs(
        self, states: Iterable[JobState] = (), labels: Mapping[str, str] | None = None, limit: int = 0, **more: Any
    ) -> Iterator[JobRecord]:
        states = list(states)
        self.asked.append((states, dict(labels or {}), limit, more))
        selected = [record_of(job) for job in self.all if not states or JobState(job.state) in states]
        yield from selected[: limit or None]

    def watch(self, *asked: Any, **more: Any) -> Generator[JobRecord, None, None]:
        yield from map(record_of, [*reversed(self.all), *self.events])

    def _check(self, job_id: str) -> None:
        if job_id in self.errors:
            raise self.errors[job_id]


class FakeJob:
    def __init__(self, client: FakeClient, job_id: str) -> None:
        self.id = job_id
        self._client = client

    def follow(self, offset: int = 0, **more: Any) -> Iterator[bytes]:
        self._client.asked.append((self.id, offset, more))
        return iter(self._client.output)

    def text(self, offset: int = 0, **more: Any) -> Iterator[str]:
        return (data.decode(errors="replace") for data in self.follow(offset, **more))
