"""
CLONE_PARENT children: processes that a job makes children of the shim at once (CLONE_PARENT, clone(2)).

Their parent is the shim's spawn thread, as it is of the job leaders, so they are not among the orphans in the list of
the shim's first thread. The spawn thread's list is as long as there are jobs, so it is not read at each exit. The shim
reaps them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from collections.abc import Set as AbstractSet

from txworker.leftovers.attribution import JobLeader
from txworker.leftovers.tags import Tag
from txworker.linux.procfs import Process, ProcessTable

FEW_JOBS = 64
"""Up to this many jobs the list is read at each exit, in 40 µs. With 5,000 jobs that takes 3 ms."""


class CloneParentChildren:
    """
    sessions: the current job leaders by pid; launching: those that are being launched; the caller changes both.
    read_tag(process) returns the job's tag that the process carries.

    A job leader that is being launched looks the same. So a child counts as a CLONE_PARENT child only if it carries
    a tag of a job that is not being launched, or was there before all launches under way began. Reactor thread.
    """

    def __init__(
        self,
        shim_pid: int,
        thread_id: int,
        sessions: Mapping[int, JobLeader],
        launching: Collection[JobLeader],
        read_tag: Callable[[Process], Tag | None],
        table: ProcessTable,
    ) -> None:
        self._sessions = sessions
        self._launching = launching
        self._read_tag = read_tag
        self._table = table
        self._children = table.children_of_thread(shim_pid, thread_id)
        self._seen: dict[int, tuple[int, AbstractSet[JobLeader]]] = {}
        self._over: set[int] = set()
        self.known: list[int] = []

    @property
    def is_cheap(self) -> bool:
        """There are so few jobs that a scan takes next to no time."""
        return len(self._sessions) <= FEW_JOBS

    def pids(self) -> list[int]:
        """The pids, the newest first; those of the last scan() where a scan is not cheap."""
        if self.is_cheap:
            self._scan()
        return self.known

    def over(self, pid: int) -> None:
        """That job leader has left the sessions. Until the shim reaps it, pids() need not read that it is a zombie."""
        self._over.add(pid)

    def scan(self) -> None:
        """Read which there are now, whatever was over before: a pid may have become another process's."""
        self._over.clear()
        self._scan()

    def _scan(self) -> None:
        children = self._children()
        self._over.intersection_update(children)
        found = [pid for pid in reversed(children) if pid not in self._sessions and pid not in self._over]
        before, self._seen = self._seen, {}
        self.known = [pid for pid in found if self._is_certain(pid, before)]

    def close(self) -> None:
        """Forget all; a later scan() raises OSError."""
        self.known = []
        self._children.close()

    def _is_certain(self, pid: int, before: Mapping[int, tuple[int, AbstractSet[JobLeader]]]) -> bool:
        """It cannot be the leader of a job that is being launched."""
        process = self._table.read(pid)
        if process is None or process.zombie:
            return False
        start, launches = before.get(pid, (-1, frozenset()))
        if start != process.start:
            launches = frozenset(self._launching)
        self._seen[pid] = process.start, launches
        return launches.isdisjoint(self._launching) or self._is_of_running_job(process)

    def _is_of_running_job(self, process: Process) -> bool:
        if process.session in self._sessions:
            return True
        tag = self._read_tag(process)
        return tag is not None and all(tag not in leader.tags for leader in self._launching)
