"""
The shim's descendants, but for jobs' own processes: orphans that it adopted, and all below them.

A process that does not descend from the shim is never looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable

from txworker.leftovers.siblings import Siblings
from txworker.leftovers.strangers import Strangers
from txworker.linux.procfs import Process, ThreadChildren, read_process, tree

_LOOKS = 5


class Descendants:
    """
    mains: the jobs' own processes by their numbers, whichever they are when it is asked. Reactor thread.

    The shim has no other children than jobs and orphans, so every orphan is some job's. `siblings` (siblings.py) are
    looked at like orphans.
    """

    def __init__(self, shim_pid: int, mains: Container[int], strangers: Strangers, siblings: Siblings) -> None:
        self._mains = mains
        self._strangers = strangers
        self._children = ThreadChildren(shim_pid, shim_pid)
        self.siblings = siblings

    def close(self) -> None:
        """Nothing will be looked for any more."""
        self._children.close()
        self.siblings.close()

    def forest(
        self, skipped: Container[int] = (), seen: Callable[[Process], None] = lambda process: None
    ) -> tuple[list[Process], bool]:
        """
        All orphans that are not to be skipped, and whoever descends from them; and whether those certainly are all.

        Who exits while we look hands its children over to us, where we have looked already: then we look again.
        seen(process) is told of each that lives as soon as it was read: a moment later it may be gone.
        """
        before: set[int] = set()
        for _ in range(_LOOKS):
            exited: set[int] = set()
            trees = [self._tree(root, exited, seen) for root in self._orphans(skipped)]
            complete = exited <= before
            if complete:
                break
            before |= exited
        return [process for tree in reversed(trees) for process in tree], complete

    def slipped(self, nobodys: Iterable[Process]) -> bool:
        """Somebody who is nobody's has exited since: what it carried could not be read, who came of it was missed."""
        return any(
            self._strangers.get(process.pid) is None and not process.zombie and not _lives(process)
            for process in nobodys
        )

    def _orphans(self, skipped: Container[int]) -> list[int]:
        """
        Children of the shim that are no job's own process, the newest first: of a chain of forks it is gone
        first.
        """
        own = [pid for pid in reversed(self._children()) if pid not in self._mains]
        return [pid for pid in [*self.siblings.there(), *own] if pid not in skipped]

    def _tree(self, root: int, exited: set[int], seen: Callable[[Process], None]) -> list[Process]:
        """An orphan and all below it; none when it has exited: the shim reaps it."""
        stranger = self._strangers.get(root)
        if stranger is not None:
            return [stranger]
        found: list[Process] = []
        for process in tree(root, exited):
            if process.zombie:
                exited.add(process.pid)
            else:
                seen(process)
            found.append(process)
        if found and found[0].zombie:
            self._strangers.forget(root)
            return []
        return found


def start_of(pid: int) -> int:
    """When that process started, as in Process; -1 when there is none."""
    process = read_process(pid)
    return -1 if process is None else process.start


class Start:
    """When a process started; read once, at a time when it is still ours to wait for."""

    __slots__ = ("_pid", "_ticks")

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._ticks: int | None = None

    def __call__(self) -> int:
        if self._ticks is None:
            self._ticks = start_of(self._pid)
        return self._ticks


def _lives(process: Process) -> bool:
    now = read_process(process.pid)
    return now is not None and not now.zombie and now.start == process.start
