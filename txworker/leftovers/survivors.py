"""Why processes that were signalled still run, in a sentence for a job's errorText and for the log."""

from __future__ import annotations

import os
from collections.abc import Sequence

from txworker.base.accounts import name_of_user
from txworker.linux.procfs import ProcessTable

_NAMED = 5
"""How many processes are named at most."""


def why_running(pids: Sequence[int], table: ProcessTable | None = None) -> str:
    """
    Names these processes and, where this worker may not signal them, the users that they run as; empty without pids.
    """
    table = table or ProcessTable()
    forbidden = [pid for pid in pids if not table.may_signal(pid)]
    if forbidden:
        users = sorted({name_of_user(uid) for pid in forbidden if (uid := table.uid(pid)) is not None})
        owner = f" as user {' and '.join(users)}" if users else ""
        ours = name_of_user(os.geteuid())
        return (
            f"{_named(forbidden)} still {_runs(forbidden)}{owner}: this worker (user {ours}) may not"
            f" signal {'it' if len(forbidden) == 1 else 'them'}"
        )
    if pids:
        return f"{_named(pids)} still {_runs(pids)}, though {'it was' if len(pids) == 1 else 'they were'} killed"
    return ""


def _named(pids: Sequence[int]) -> str:
    if len(pids) == 1:
        return f"process {pids[0]}"
    more = f" and {len(pids) - _NAMED} more" if len(pids) > _NAMED else ""
    return f"processes {', '.join(map(str, pids[:_NAMED]))}{more}"


def _runs(pids: Sequence[int]) -> str:
    return "runs" if len(pids) == 1 else "run"
