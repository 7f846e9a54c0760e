"""What running jobs use: samples of a worker, and the usage between two of them. Pure, except sample()."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from txworker.cli.formatting import seconds
from txworker.cli.named_jobs import UNFINISHED
from txworker.client import Client
from txworker.client.values import LiveUsage
from txworker.pb import worker_pb2 as pb


@dataclass(frozen=True)
class Sample:
    """One sample of a worker: its time by a monotonic clock, the unfinished jobs, and what they use."""

    at: float
    jobs: tuple[pb.Job, ...]
    usages: Mapping[str, LiveUsage]


@dataclass(frozen=True)
class JobUse:
    """
    What one job uses, with all of its processes. cpu_percent: of one CPU, since the sample before; None: there was
    none. usage: None if the worker reported none, for example of a job that has just ended.
    """

    worker: str
    job: pb.Job
    usage: LiveUsage | None
    cpu_percent: float | None
    ran_seconds: float


SORT_KEYS: dict[str, Callable[[JobUse], tuple[object, ...]]] = {
    "cpu": lambda use: (-(use.cpu_percent or 0.0), use.job.jobID),
    "memory": lambda use: (-(use.usage.rss_bytes if use.usage else 0), use.job.jobID),
    "processes": lambda use: (-(use.usage.processes if use.usage else 0), use.job.jobID),
    "ran": lambda use: (-use.ran_seconds, use.job.jobID),
    "output": lambda use: (-use.job.outputBytes, use.job.jobID),
    "job": lambda use: (use.worker, use.job.jobID),
}
"""The keys of --sort; the largest value comes first."""


def sample(client: Client, ids: Sequence[str], labels: Mapping[str, str], monotonic: Callable[[], float]) -> Sample:
    """
    Ask the worker for its unfinished jobs, or those of these ids, and for their usage.

    Raises:
        WorkerError: the worker refuses, or does not answer for as long as the client's patience lasts.
    """
    records = client.jobs(UNFINISHED, labels)
    jobs = tuple(record.message for record in records if not ids or record.id in ids)
    usages = client.usage(ids)
    return Sample(monotonic(), jobs, usages)


def uses(worker: str, before: Sample | None, after: Sample, now: float) -> list[JobUse]:
    """The usage of each job in the later sample. now: seconds since the epoch."""
    return [
        JobUse(
            worker,
            job,
            after.usages.get(job.jobID),
            _cpu_percent(job.jobID, before, after),
            max(now - seconds(job.startedAt), 0.0) if job.HasField("startedAt") else 0.0,
        )
        for job in after.jobs
    ]


def sorted_by(key: str, found: Iterable[JobUse]) -> list[JobUse]:
    """In the order of --sort."""
    return sorted(found, key=SORT_KEYS[key])


def _cpu_percent(job_id: str, before: Sample | None, after: Sample) -> float | None:
    """A job that is not in the earlier sample has started since then. A decrease of CPU time counts as 0."""
    usage = after.usages.get(job_id)
    if before is None or usage is None or after.at <= before.at:
        return None
    earlier = before.usages.get(job_id)
    used = _cpu_seconds(usage) - (_cpu_seconds(earlier) if earlier else 0.0)
    return max(100.0 * used / (after.at - before.at), 0.0)


def _cpu_seconds(usage: LiveUsage) -> float:
    return usage.user_cpu + usage.system_cpu
