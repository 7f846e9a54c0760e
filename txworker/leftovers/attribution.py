"""To which job a process below the shim belongs. Pure decisions on what scan.py has read."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from txworker.leftovers.tags import Tag, rlimit_tag_for
from txworker.linux.procfs import Process


@dataclass(eq=False)
class JobLeader:
    """
    The process that a job is started as, from before its launch until it is reaped; also the handle by which a
    LeftoverScan is told of it.

    pid is None while it is launched. start() is in the unit of Process.start; it is called only when it matters.
    """

    job_id: str
    pid: int | None
    start: Callable[[], int]
    exited: bool = False
    tags: tuple[str, int] = field(init=False)
    """What the processes of its job are tagged with."""

    def __post_init__(self) -> None:
        self.tags = self.job_id, rlimit_tag_for(self.job_id)


def attribute(
    forest: Iterable[Process],
    sessions: Mapping[int, JobLeader],
    others: Collection[JobLeader],
    tags: Callable[[Process], Iterable[Tag]],
    eliminate: bool = True,
) -> dict[int, tuple[str, ...]]:
    """
    The jobs to which each process of the forest belongs, by its pid: one, none, or perhaps several.

    The forest is everything below the shim but for job leaders and what is below them, parents before their children.
    `sessions` are job leaders by pid, `others` those without one; tags(process) gives the most reliable first.

    What a process says of itself counts only when it names one of these jobs, because a job may run another worker,
    or lie: its session counts first, then its tags, then its parent. An orphan without any of these belongs to a job
    that ran when it was born; with `eliminate` it is attributed to all such jobs once the leaders of all have exited.
    """
    leaders = [*sessions.values(), *others]
    job_ids = {tag: leader.job_id for leader in leaders for tag in leader.tags}
    found: dict[int, tuple[str, ...]] = {}
    for process in forest:
        leader = sessions.get(process.session)
        tag = leader.job_id if leader is not None else next((tag for tag in tags(process) if tag in job_ids), None)
        if tag is not None:
            found[process.pid] = (job_ids[tag],)
        elif process.parent in found:
            found[process.pid] = found[process.parent]
        else:
            found[process.pid] = _by_elimination(process, leaders) if eliminate else ()
    return found


def _by_elimination(orphan: Process, leaders: Iterable[JobLeader]) -> tuple[str, ...]:
    born_before = [leader for leader in leaders if leader.start() <= orphan.start]
    if any(not leader.exited for leader in born_before):
        return ()
    return tuple(leader.job_id for leader in born_before)
