"""
What scans remember of processes, so that a scan is fast: which carry a job's tag, and which orphans are untagged.

A tag is read as soon as its process is seen, because a moment later the process may be gone. It is read once: a tag
that was there stays. A process without a tag may get one by an exec, so it is read again from time to time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress

from txworker.base.reactor import Clock
from txworker.leftovers.attribution import JobLeader
from txworker.leftovers.tags import Tag, all_tags
from txworker.linux.procfs import ExitWatch, Process, ProcessTable

UNTAGGED_AFTER_SECONDS = 0.2
"""Between two reads that both find no tag: in the middle of an exec every process looks untagged."""

UNTAGGED_SECONDS = 5.0
"""Then its tags are read again: an exec may have changed them."""


MOST_UNTAGGED = 1_000
"""Orphans that are known to be untagged: each needs a descriptor. Others are read in every scan."""


class Untagged:
    """
    Orphans that carry no job's tag. They are read twice, and then only asked whether they have exited.

    Without cgroups some of them may stay as long as the worker has jobs. Reading everything that /proc says of each in
    every scan would make scans so slow that none is ever complete beside a job that forks all the time. Reactor thread.
    """

    def __init__(self, clock: Clock, table: ProcessTable) -> None:
        self._clock = clock
        self._table = table
        self._seen: dict[int, tuple[Process, float]] = {}  # since when
        self._known: dict[int, tuple[float, ExitWatch]] = {}  # until when

    def get(self, pid: int) -> Process | None:
        """The process as it was last read, if it is known to be untagged and has not exited."""
        known = self._known.get(pid)
        if known is None:
            return None
        until, watch = known
        if until < self._clock.seconds() or watch.exited():
            self._unlearn(pid)
            return None
        return self._seen[pid][0]

    def __contains__(self, pid: int) -> bool:
        return pid in self._known

    def saw(self, process: Process) -> None:
        """The process was read and carries no tag."""
        now = self._clock.seconds()
        before, since = self._seen.get(process.pid, (process, now))
        if before.start != process.start:
            since = now
        self._seen[process.pid] = (process, since)
        if now - since < UNTAGGED_AFTER_SECONDS or process.pid in self._known:
            return
        if len(self._known) < MOST_UNTAGGED:
            with suppress(OSError):  # it has exited, or there is no descriptor: then it is read in every scan
                self._known[process.pid] = (now + UNTAGGED_SECONDS, self._table.watch_exit(process.pid))

    def forget(self, pid: int) -> None:
        """Read this process again in the next scan; or another process may have that pid from now on."""
        self._seen.pop(pid, None)
        self._unlearn(pid)

    def close(self) -> None:
        """Forget all."""
        for pid in list(self._known):
            self._unlearn(pid)
        self._seen.clear()

    def _unlearn(self, pid: int) -> None:
        _, watch = self._known.pop(pid, (0.0, None))
        if watch is not None:
            watch.close()


class TagCache:
    """sessions: the current job leaders by pid; the caller changes it. Reactor thread."""

    def __init__(
        self, sessions: Mapping[int, JobLeader], untagged: Untagged, shim_pid: int, table: ProcessTable
    ) -> None:
        self._sessions = sessions
        self._untagged = untagged
        self._shim_pid = shim_pid
        self._table = table
        self._found: dict[tuple[int, int], Tag] = {}
        self._known: set[Tag] = set()

    def add(self, leader: JobLeader) -> None:
        """The tags of that leader's job count from now on."""
        self._known.update(leader.tags)

    def remove(self, leader: JobLeader) -> None:
        """The tags of that leader's job do not count any more."""
        self._known.difference_update(leader.tags)

    def see(self, process: Process) -> None:
        """Read the tags of a process, unless they are known or its session says more."""
        if process.session in self._sessions or process.pid in self._untagged or self.of(process):
            return
        tag = self.read(process)
        if tag is not None:
            self._found[process.pid, process.start] = tag
        elif process.parent == self._shim_pid:
            self._untagged.saw(process)

    def read(self, process: Process) -> Tag | None:
        """The most reliable tag of a job that the process carries now."""
        return next((tag for tag in all_tags(process.pid, self._table) if tag in self._known), None)

    def of(self, process: Process) -> tuple[Tag, ...]:
        """The tag with which the process was seen: none or one."""
        tag = self._found.get((process.pid, process.start))
        return () if tag is None or tag not in self._known else (tag,)

    def retain(self, processes: Iterable[Process]) -> None:
        """Forget all processes but these: they have gone."""
        alive = {(process.pid, process.start) for process in processes}
        self._found = {key: tag for key, tag in self._found.items() if key in alive}
