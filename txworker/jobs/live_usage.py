"""What running jobs use at this moment. Immutable values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RunningProcess:
    """A job's process. pid: of its session and process group, too. cgroup: the job's directory, if it has one."""

    job_id: str
    pid: int
    cgroup: str | None = None


@dataclass(frozen=True)
class LiveUsage:
    """
    What all processes of a job use at one moment.

    processes: how many there are, without zombies. rss_bytes: the sum of their resident memory; pages that several
    share are counted for each. CPU times: so far, of those that have exited, too, as far as the kernel tells.
    """

    job_id: str
    processes: int = 0
    rss_bytes: int = 0
    user_cpu_seconds: float = 0.0
    system_cpu_seconds: float = 0.0
