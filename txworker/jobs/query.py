"""Which jobs are meant: by state and by label. A page is a place in their order, newest first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from txworker.jobs.job import Job, JobState

BEYOND_NEWEST = 2**63 - 1
"""A number beyond every job's: the first page begins before it."""


@dataclass(frozen=True)
class Query:
    """Jobs in any of these states (none: in every state) that carry all of these labels."""

    states: frozenset[JobState] = frozenset()
    labels: Mapping[str, str] = field(default_factory=dict)

    def matches(self, job: Job) -> bool:
        """That job is meant."""
        return (not self.states or job.state in self.states) and all(
            job.spec.has_label(name, value) for name, value in self.labels.items()
        )


@dataclass(frozen=True)
class Retention:
    """How long finished jobs are kept, with their output; 0: no such limit."""

    days: float = 0
    jobs: int = 0
    output_bytes: int = 0

    @property
    def limited(self) -> bool:
        """Anything will ever be removed."""
        return bool(self.days or self.jobs or self.output_bytes)
