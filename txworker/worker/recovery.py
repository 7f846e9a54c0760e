"""The errorText of jobs that were lost with an earlier worker."""

from __future__ import annotations

from datetime import datetime, timezone


def lost_text(pid: int | None, alive_at: float | None, rebooted: bool, stopped: bool = False) -> str:
    """
    The errorText of a job that was running when its worker was lost.

    pid: that worker's; alive_at: when its lease was last renewed, in seconds since the epoch; None: unknown. rebooted:
    the machine was restarted since. stopped: the worker was stopped and left the job to a shim that has ended since.
    """
    when = "" if alive_at is None else f", last seen alive at {utc(alive_at)}"
    if rebooted:
        return f"lost: the machine was restarted while it ran{when}"
    worker = "the worker" if pid is None else f"the worker (pid {pid})"
    if stopped:
        at = "" if alive_at is None else f" at {utc(alive_at)}"
        return f"lost: {worker} was stopped{at} while it ran, and the shim that kept it has ended"
    return f"lost: {worker} ended without notice while it ran{when}"


def utc(at: float) -> str:
    """Seconds since the epoch, as text."""
    return datetime.fromtimestamp(at, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
