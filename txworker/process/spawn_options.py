"""What a process is started with beyond the parameters of IReactorProcess."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SpawnOptions:
    """
    What is set before the first instruction of the process, and what the shim enforces if the worker dies.

    limits: (field name for messages, RLIMIT_ number, soft, hard).
    user: uid, gid and supplementary groups; None: the worker's own.
    cgroup: the directory to create for it.
    tag: as linux/rlimit_tag.py has it.
    timeout_seconds, quiet_seconds: None: no such limit.
    max_output: bytes, 0: no ceiling.
    feed: its stdin stays open for further bytes.
    keep_leftovers: what it leaves behind is not ended.
    ahead: seconds by which the job's clock is ahead of the clock since boot.
    terminal: rows and columns of its pseudo-terminal; None: it has none.
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
    terminal: tuple[int, int] | None = None
    feed: bool = False
    keep_leftovers: bool = False


DEFAULT_OPTIONS = SpawnOptions("")
"""Nothing is set."""

SAME_PIPE = "="
"""In childFDs: the descriptor shares the pipe of descriptor 1, so that the order of writes is kept."""


def oom_score_adj_of_jobs(configured: int, own: int) -> int:
    """
    A job's oom_score_adj (0: that of the worker, `own`): what is configured, and never less than the worker's own.

    The kernel would kill a worker with more than its jobs before them; and without CAP_SYS_RESOURCE it allows no less
    than what a process was given from outside, as a container of Kubernetes may be given 1000 (EACCES). Only what is
    below 0 is taken as it is.
    """
    return max(configured, own) if configured > 0 else configured
