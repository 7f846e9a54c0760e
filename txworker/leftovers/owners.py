"""Whose a process is that some job left behind. Pure decisions; census.py looks, and asks here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from txworker.linux.procfs import Process

Sign = str | int
"""Of a job: its id, or its brand."""

Signs = Callable[[Process], Iterable[Sign]]
"""What a process carries, the surest first: the parts of its cgroup's name, its brand, its mark."""


@dataclass
class Main:
    """A job's own process, from its start until it is waited for. start as in Process; asked when it matters."""

    job_id: str
    tag: int
    start: Callable[[], int]
    exited: bool = False


def owners(
    forest: Iterable[Process], mains: Mapping[int, Main], signs: Signs, guess: bool = True
) -> dict[int, tuple[str, ...]]:
    """
    To which jobs each process of the forest belongs, by its pid; to one, to none, or perhaps to several.

    The forest is all that descends from orphans which the worker has adopted, parents before their children. What a
    process says of itself counts only when it names a job of ours, for a job may run another worker, or lie: its
    session, its signs, then whom it descends from. An orphan without any of these belongs to a job that ran when it
    was born, and that is told only by elimination: when every such job has exited, it is theirs. guess says whether
    to go so far.
    """
    ours: dict[Sign, str] = {main.job_id: main.job_id for main in mains.values()}
    ours.update((main.tag, main.job_id) for main in mains.values())
    found: dict[int, tuple[str, ...]] = {}
    for process in forest:
        main = mains.get(process.session)
        sign = main.job_id if main is not None else next((sign for sign in signs(process) if sign in ours), None)
        if sign is not None:
            found[process.pid] = (ours[sign],)
        elif process.parent in found:
            found[process.pid] = found[process.parent]
        else:
            found[process.pid] = _candidates(process, mains) if guess else ()
    return found


def _candidates(orphan: Process, mains: Mapping[int, Main]) -> tuple[str, ...]:
    born_before = [main for main in mains.values() if main.start() <= orphan.start]
    if any(not main.exited for main in born_before):
        return ()
    return tuple(main.job_id for main in born_before)
