"""Which jobs a list shows, and how long finished jobs are kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from txworker.jobs.job import Job, JobState

BEYOND_NEWEST = 2**63 - 1
"""Higher than every job's number: the first page, newest job first, begins below it."""


@dataclass(frozen=True)
class Query:
    """
    Jobs in one of these states (empty: in any state) that have all of these labels, an id that begins with id_prefix
    (empty: any id), were created in [since, until), in seconds since the epoch (None: no such bound), and have that
    owner (empty: any). No job has an owner: clients are not told apart.
    """

    states: frozenset[JobState] = frozenset()
    labels: Mapping[str, str] = field(default_factory=dict)
    id_prefix: str = ""
    since: float | None = None
    until: float | None = None
    owner: str = ""

    def matches(self, job: Job) -> bool:
        """Whether the query selects that job."""
        return (
            not self.owner
            and (not self.states or job.state in self.states)
            and job.id.startswith(self.id_prefix)
            and (self.since is None or job.created_at >= self.since)
            and (self.until is None or job.created_at < self.until)
            and all(job.spec.has_label(name, value) for name, value in self.labels.items())
        )

    @property
    def has_window(self) -> bool:
        """Whether the time of creation matters."""
        return self.since is not None or self.until is not None


@dataclass(frozen=True)
class Retention:
    """How many finished jobs are kept, and for how long, with their output; 0: no limit."""

    days: float = 0
    jobs: int = 0
    output_bytes: int = 0

    @property
    def limited(self) -> bool:
        """Whether any limit is set."""
        return bool(self.days or self.jobs or self.output_bytes)
