"""
Siblings of the jobs' own processes: made by a job to be a child of the worker's at once (CLONE_PARENT, clone(2)).

Their parent is the thread that launches, which is why they are no orphans in the reactor thread's list (apart.py).
There they stand among the jobs' own processes, as many as there are jobs: so the list is not read at each exit.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Container, Mapping
from collections.abc import Set as AbstractSet

from txworker.process.owners import Main, Sign
from txworker.process.procfs import Process, ThreadChildren, read_process

FEW = 64
"""Of so many jobs the list can be read at each exit: that takes 40 µs. Of 5,000 it takes 3 ms."""

_LOOKS = 5


class Siblings:
    """
    mains: the jobs' own processes by their numbers, launches that are under way by numbers below 0; others: children
    that are no job's. Whoever they are when it is asked. sign(process) is that of a job, if it carries one;
    waited_for(pid) is told that somebody else may be given the number.

    A child whose launch is under way is no main yet, and looks the same. So one is a sibling only if it carries what
    none of those carries, or was there already before all of them had begun. Reactor thread.
    """

    def __init__(
        self,
        thread_id: int,
        mains: Mapping[int, Main],
        under_way: AbstractSet[int],
        others: Container[int],
        sign: Callable[[Process], Sign | None],
        waited_for: Callable[[int], None],
    ) -> None:
        self._mains = mains
        self._under_way = under_way
        self._others = others
        self._sign = sign
        self._waited_for = waited_for
        self._children = ThreadChildren(thread_id)
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
        """Read who is there now, and wait for those that have exited: again, for they may have made others."""
        for _ in range(_LOOKS):
            found = self._read()
            self.known = [pid for pid in found if not self._reaped(pid)]
            if len(self.known) == len(found):
                break

    def forget(self, pid: int) -> None:
        """It was waited for: somebody else may be given the number."""
        self.known = [one for one in self.known if one != pid]

    def close(self) -> None:
        """Nobody will be looked for any more."""
        self.known = []
        self._children.close()

    def _read(self) -> list[int]:
        there = [pid for pid in reversed(self._children()) if pid not in self._mains and pid not in self._others]
        before, self._seen = self._seen, {}
        return [pid for pid in there if self._is_certain(pid, before)]

    def _is_certain(self, pid: int, before: Mapping[int, tuple[int, AbstractSet[int]]]) -> bool:
        """It cannot be the child of a launch that is under way."""
        process = read_process(pid)
        if process is None:
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
        return sign is not None and all(sign not in (main.job_id, main.brand) for main in launching)

    def _reaped(self, pid: int) -> bool:
        """It has exited; any thread may wait for another's child (wait(2))."""
        with contextlib.suppress(ChildProcessError):
            if os.waitpid(pid, os.WNOHANG) == (0, 0):
                return False
        self._waited_for(pid)
        return True
