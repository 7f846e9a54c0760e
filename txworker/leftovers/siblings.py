"""
Siblings of the jobs' own processes: made by a job to be a child of the shim's at once (CLONE_PARENT, clone(2)).

Their parent is the shim's spawn thread, which is why they are no orphans in its first thread's list. There they stand
among the jobs' own processes, as many as there are jobs: so the list is not read at each exit. The shim reaps them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet

from txworker.leftovers.owners import Main, Sign
from txworker.linux.procfs import Process, ThreadChildren, read_process

FEW = 64
"""Of so many jobs the list can be read at each exit: that takes 40 µs. Of 5,000 it takes 3 ms."""


class Siblings:
    """
    mains: the jobs' own processes by their numbers, launches that are under way by numbers below 0, whichever they are
    when it is asked. sign(process) is that of a job, if it carries one.

    A child whose launch is under way is no main yet, and looks the same. So one is a sibling only if it carries what
    none of those carries, or was there already before all of them had begun. Reactor thread.
    """

    def __init__(
        self,
        shim_pid: int,
        thread_id: int,
        mains: Mapping[int, Main],
        under_way: AbstractSet[int],
        sign: Callable[[Process], Sign | None],
    ) -> None:
        self._mains = mains
        self._under_way = under_way
        self._sign = sign
        self._children = ThreadChildren(shim_pid, thread_id)
        self._seen: dict[int, tuple[int, AbstractSet[int]]] = {}
        self.known: list[int] = []

    @property
    def cheap(self) -> bool:
        """To look takes next to nothing."""
        return len(self._mains) <= FEW

    def there(self) -> list[int]:
        """Who they are, the newest first; as they were seen last where to look is dear."""
        if self.cheap:
            self.look()
        return self.known

    def look(self) -> None:
        """Read which there are now."""
        self.known = self._read()

    def close(self) -> None:
        """Nobody will be looked for any more."""
        self.known = []
        self._children.close()

    def _read(self) -> list[int]:
        there = [pid for pid in reversed(self._children()) if pid not in self._mains]
        before, self._seen = self._seen, {}
        return [pid for pid in there if self._is_certain(pid, before)]

    def _is_certain(self, pid: int, before: Mapping[int, tuple[int, AbstractSet[int]]]) -> bool:
        """It cannot be the child of a launch that is under way."""
        process = read_process(pid)
        if process is None or process.zombie:
            return False
        start, launches = before.get(pid, (-1, frozenset()))
        if start != process.start:
            launches = frozenset(self._under_way)
        self._seen[pid] = process.start, launches
        return not launches & self._under_way or self._is_anothers(process)

    def _is_anothers(self, process: Process) -> bool:
        if process.session in self._mains:
            return True
        sign = self._sign(process)
        launching = (self._mains[number] for number in self._under_way)
        return sign is not None and all(sign not in (main.job_id, main.tag) for main in launching)
