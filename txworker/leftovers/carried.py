"""
Which processes carry a job's sign: read as soon as one is seen, for a moment later it may be gone, and only once.

A sign stays what it is; who carries none may get one by an exec, and is read again (strangers.py says how often).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from txworker.leftovers.owners import Main, Sign
from txworker.leftovers.strangers import Strangers
from txworker.leftovers.tags import mark_of
from txworker.linux.procfs import Process, cgroup_of, rlimit_tag_of


class Carried:
    """mains: the jobs' own processes by their numbers, whoever they are when it is asked. Reactor thread."""

    def __init__(self, mains: Mapping[int, Main], strangers: Strangers, shim_pid: int) -> None:
        self._shim_pid = shim_pid
        self._mains = mains
        self._strangers = strangers
        self._found: dict[tuple[int, int], Sign] = {}
        self._ours: set[Sign] = set()

    def add(self, main: Main) -> None:
        """These are a job's signs from now on."""
        self._ours |= {main.job_id, main.tag}

    def remove(self, main: Main) -> None:
        """They say nothing any more."""
        self._ours -= {main.job_id, main.tag}

    def see(self, process: Process) -> None:
        """Find out what that one carries, unless it is known, or its session says more."""
        if process.session in self._mains or process.pid in self._strangers or self.of(process):
            return
        sign = self.sign(process)
        if sign is not None:
            self._found[process.pid, process.start] = sign
        elif process.parent == self._shim_pid:
            self._strangers.saw(process)

    def signs(self, process: Process) -> Iterator[Sign]:
        """All that it carries now, of whichever job."""
        return _signs(process)

    def sign(self, process: Process) -> Sign | None:
        """Of which job it carries one now."""
        return next((sign for sign in _signs(process) if sign in self._ours), None)

    def of(self, process: Process) -> tuple[Sign, ...]:
        """The sign of a job that it was seen with; none, or one."""
        sign = self._found.get((process.pid, process.start))
        return () if sign is None or sign not in self._ours else (sign,)

    def keep(self, forest: Iterable[Process]) -> None:
        """All others are gone."""
        there = {(process.pid, process.start) for process in forest}
        self._found = {one: sign for one, sign in self._found.items() if one in there}


def _signs(process: Process) -> Iterator[Sign]:
    """What a process carries, the surest first: the parts of its cgroup's name, its brand, its mark."""
    yield from cgroup_of(process.pid).split("/")
    yield rlimit_tag_of(process.pid)
    mark = mark_of(process.pid)
    if mark is not None:
        yield mark
