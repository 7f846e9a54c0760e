"""
What descends from the shim but is neither a job leader nor below one: orphans that the shim adopted, CLONE_PARENT
children, and everything below these. Other processes of the machine are never read.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable

from txworker.leftovers.clone_parent import CloneParentChildren
from txworker.leftovers.tag_cache import Untagged
from txworker.linux.procfs import Process, ProcessTable

_ATTEMPTS = 5

Seen = Callable[[Process], None]
"""Called with each process as soon as it is read, because a moment later it may be gone."""


class Descendants:
    """
    leader_pids: of the current job leaders; the caller changes it. The shim has no other children than job leaders,
    orphans and CLONE_PARENT children, so every one of the latter two belongs to some job. Reactor thread.
    """

    def __init__(
        self,
        shim_pid: int,
        leader_pids: Container[int],
        untagged: Untagged,
        clone_parent: CloneParentChildren,
        table: ProcessTable,
    ) -> None:
        self._leader_pids = leader_pids
        self._untagged = untagged
        self._table = table
        self._children = table.children_of_thread(shim_pid, shim_pid)
        self.clone_parent = clone_parent

    def close(self) -> None:
        """A later scan raises OSError."""
        self._children.close()
        self.clone_parent.close()

    def scan(self, skipped: Container[int] = (), seen: Seen = lambda process: None) -> tuple[list[Process], bool]:
        """
        The processes, parents before their children; and whether these are certainly all.

        A root with a pid in `skipped` is left out, with everything below. A process that exits during the scan hands
        its children over to the shim after its list was read: then the scan starts again, a few times.
        """
        before: set[int] = set()
        for _ in range(_ATTEMPTS):
            exited: set[int] = set()
            trees = [self._tree(root, exited, seen) for root in self._roots(skipped)]
            complete = exited <= before
            if complete:
                break
            before |= exited
        return [process for tree in reversed(trees) for process in tree], complete

    def any_exited(self, unattributed: Iterable[Process]) -> bool:
        """One of these has exited since it was read: then its tags may be unread and its children missed."""
        return any(
            self._untagged.get(process.pid) is None and not process.zombie and not self._runs(process)
            for process in unattributed
        )

    def _roots(self, skipped: Container[int]) -> list[int]:
        """The newest first: in a chain of forks that is the one which exits first."""
        orphans = [pid for pid in reversed(self._children()) if pid not in self._leader_pids]
        return [pid for pid in [*self.clone_parent.pids(), *orphans] if pid not in skipped]

    def _tree(self, root: int, exited: set[int], seen: Seen) -> list[Process]:
        """A root and everything below it; empty when the root has exited."""
        untagged = self._untagged.get(root)
        if untagged is not None:
            return [untagged]
        found: list[Process] = []
        for process in self._table.tree(root, exited):
            if process.zombie:
                exited.add(process.pid)
            else:
                seen(process)
            found.append(process)
        if found and found[0].zombie:
            self._untagged.forget(root)
            return []
        return found

    def _runs(self, process: Process) -> bool:
        now = self._table.read(process.pid)
        return now is not None and not now.zombie and now.start == process.start


class StartTime:
    """When a process started, in the unit of Process.start; read once, while its pid cannot be another's."""

    __slots__ = ("_pid", "_table", "_ticks")

    def __init__(self, pid: int, table: ProcessTable) -> None:
        self._pid = pid
        self._table = table
        self._ticks: int | None = None

    def __call__(self) -> int:
        if self._ticks is None:
            process = self._table.read(self._pid)
            self._ticks = -1 if process is None else process.start
        return self._ticks
