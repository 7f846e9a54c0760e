"""What became of the worker before this one, in a sentence for the jobs that it left unfinished. A pure decision."""

from __future__ import annotations

from datetime import datetime, timezone


def lost_text(pid: int | None, alive_at: float | None, rebooted: bool, stopped: bool = False) -> str:
    """
    The errorText of a job that was running when its worker was lost.

    pid: of that worker; alive_at: when it was last seen alive, in seconds since the epoch; None: not known. rebooted:
    the machine was restarted since. stopped: the worker had ended in order, and left the job to a shim that is not
    there any more.
    """
    when = "" if alive_at is None else f", last seen alive at {utc(alive_at)}"
    if rebooted:
        return f"lost: the machine was restarted while it ran{when}"
    who = "the worker" if pid is None else f"the worker (pid {pid})"
    if stopped:
        at = "" if alive_at is None else f" at {utc(alive_at)}"
        return f"lost: {who} was stopped{at} while it ran, and the shim that kept it has ended"
    return f"lost: {who} ended without notice while it ran{when}"


def utc(at: float) -> str:
    """Seconds since the epoch, for a sentence."""
    return datetime.fromtimestamp(at, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
