"""What a job's process is given to begin with: its environment. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from txworker.jobs import MARK, JobSpec


def environment(base: Mapping[str, str], spec: JobSpec, job_id: str) -> dict[str, str]:
    """The worker's own environment, what the order adds to it, and the mark by which the job can be told."""
    return {**base, **spec.env, MARK: job_id}
