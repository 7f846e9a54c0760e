"""A job's process that an earlier worker has started and the shim has kept: what is to be known to go on with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from txworker.jobs.job import EndReason


@dataclass(frozen=True)
class HeldProcess:
    """
    started_at is in seconds since the epoch, ticks as Job.started_ticks; kill_at, timeout_at and last_output are of the
    monotonic clock.

    reason: why the shim is ending it, when no worker was there to decide. stopping: it was asked to end, by the worker
    or by the shim; KILL is due at kill_at, None: it was sent. lost and discarded: bytes of stdout and of stderr that
    the disk refused, and that came beyond max_output. exit: how it exited, None: it runs. pipes: descriptors, stdout
    first; whatever takes the job over owns them.
    """

    job_id: str
    pid: int
    ticks: int
    started_at: float
    pipes: tuple[int, ...]
    timeout_at: float | None = None
    last_output: float = 0.0
    reason: EndReason | None = None
    stopping: bool = False
    kill_at: float | None = None
    lost: tuple[int, int] = (0, 0)
    discarded: tuple[int, int] = (0, 0)
    max_output: int = 0
    cgroup: str | None = None
    exit: Mapping[str, Any] | None = None

    @property
    def exited_at(self) -> float | None:
        """When it exited, in seconds since the epoch; None: it runs."""
        return None if self.exit is None else self.exit["at"]
