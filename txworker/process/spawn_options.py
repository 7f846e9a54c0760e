"""What belongs to one start beyond what IReactorProcess has words for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SpawnOptions:
    """
    What must be so before a process's first instruction, and what the shim enforces should the worker die.

    limits: (name for messages, RLIMIT_ number, soft, hard). user: uid, gid and supplementary groups. cgroup: the
    directory to be made for it. tag: linux/rlimit_tag.py. Times in seconds; None: no such limit. max_output: bytes,
    0: no ceiling. ahead: by so much the time as the job has it is ahead of the clock since boot.
    """

    job_id: str
    limits: tuple[tuple[str, int, int, int], ...] = ()
    user: tuple[int, int, tuple[int, ...]] | None = None
    nice: int = 0
    oom_score_adj: int = 0
    cgroup: str | None = None
    tag: int = 0
    timeout_seconds: float | None = None
    quiet_seconds: float | None = None
    grace_seconds: float = 10.0
    max_output: int = 0
    ahead: float = 0.0


DEFAULT_OPTIONS = SpawnOptions("")
"""A process like any other."""
