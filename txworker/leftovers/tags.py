"""
How a job's processes are tagged: by a number in a resource limit (linux/rlimit_tag.py) and by a variable in their
environment with the job id as its value. Children inherit both.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import lru_cache

from txworker.jobs import JOB_ID_VARIABLE
from txworker.linux.procfs import ProcessTable

Tag = str | int
"""A job id, found in the environment or in a cgroup's path, or an rlimit tag."""


@lru_cache(maxsize=64)  # called twice per launch
def rlimit_tag_for(job_id: str) -> int:
    """Never 0, and never the same for two jobs, whichever workers they run on."""
    return int.from_bytes(hashlib.sha256(job_id.encode()).digest()[:7], "big") | 1 << 56


def environment_tag(pid: int, table: ProcessTable | None = None) -> str | None:
    """The job id in the environment that a process was started with."""
    return (table or ProcessTable()).environment_tag(pid, JOB_ID_VARIABLE)


def inherited_tags(pid: int, table: ProcessTable) -> Iterator[Tag]:
    """The tags that a process inherited: its rlimit tag (0 without one), and its environment tag if it has one."""
    yield table.rlimit_tag(pid)
    job_id = environment_tag(pid, table)
    if job_id is not None:
        yield job_id


def all_tags(pid: int, table: ProcessTable) -> Iterator[Tag]:
    """The parts of its cgroup's path, which are the most reliable, and then its inherited tags."""
    yield from table.cgroup(pid).split("/")
    yield from inherited_tags(pid, table)
