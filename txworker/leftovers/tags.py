"""
What tells a job's processes: a number that they inherit (linux/rlimit_tag.py), and a variable in their
environment.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

from txworker.jobs import JOB_ID_VARIABLE
from txworker.linux.procfs import environment_tag_of


@lru_cache(maxsize=64)  # asked for twice at each launch
def tag_of(job_id: str) -> int:
    """Never the same for two jobs, on this worker or another, and never 0."""
    return int.from_bytes(hashlib.sha256(job_id.encode()).digest()[:7], "big") | 1 << 56


def mark_of(pid: int) -> str | None:
    """The job id in the environment that a process was started with."""
    return environment_tag_of(pid, JOB_ID_VARIABLE)
