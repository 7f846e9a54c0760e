"""A job's process that an earlier worker started and the shim holds: what a takeover needs to know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from txworker.jobs.job import EndReason


@dataclass(frozen=True)
class HeldProcess:
    """
    One process as the shim reports it to a new worker. Counts of bytes are pairs, of stdout and of stderr.

    ticks: as Job.started_ticks.
    started_at: in seconds since the epoch.
    pipes: the descriptors of the output pipes, stdout first. The worker that takes the job over owns them.
    timeout_at, last_output: in seconds of the monotonic clock.
    reason: why it is being ended, by a worker or by the shim; None: it is not.
    stopping: TERM was sent, by a worker or by the shim.
    kill_at: when KILL is due, in seconds of the monotonic clock; None: KILL was sent.
    lost: bytes that the disk refused, of which no line in the output tells yet.
    discarded: bytes beyond max_output.
    incomplete: whether any are missing from the output.
    exit: the shim's report of the exit (shim/messages.py); None: the process runs.
    stdin: the shim's report of what was fed to it; None: it was not started with feed.
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
    stdin: Mapping[str, Any] | None = None
    incomplete: tuple[bool, bool] = (False, False)

    @property
    def exited_at(self) -> float | None:
        """When the process exited, in seconds since the epoch; None: it runs."""
        return None if self.exit is None else self.exit["at"]
