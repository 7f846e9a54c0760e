"""
The worker's descendants, but for its jobs' own processes: orphans that it adopted, and all below them.

Nobody who does not descend from the worker is ever looked at.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Container, Iterable

from txworker.process.procfs import Process, ThreadChildren, children, read_process, tree
from txworker.process.siblings import Siblings
from txworker.process.strangers import Strangers

_LOOKS = 5
_REAPED_AT_ONCE = 1000
_WNOTHREAD = 0x2000_0000  # <linux/wait.h>


class Descendants:
    """
    mains: the jobs' own processes by their numbers, whoever they are when it is asked. Reactor thread, but for
    spare() and forget().

    Whom the worker had as a child before its first job (it may have been exec'ed by a script) is spared: never touched.
    `alone`: it had none, and is not process 1 of a container either, who is given the orphans of everybody there. So
    every orphan is some job's. `siblings` (siblings.py), where there can be any, are looked at like orphans.
    """

    siblings: Siblings | None = None

    def __init__(self, mains: Container[int], strangers: Strangers) -> None:
        self._mains = mains
        self._strangers = strangers
        self._children = ThreadChildren(threading.get_native_id())
        self._spared = {pid: start_of(pid) for pid in children(os.getpid())}
        self.alone = not self._spared and os.getpid() != 1
        self.others: set[int] = set()

    def spare(self, pid: int) -> None:
        """A child of ours that is no job's, leaves nobody behind, and is waited for by others: it is not looked at."""
        self.others.add(pid)

    def forget(self, pid: int) -> None:
        """Nobody is spared for that number any more: it is about to be waited for."""
        self.others.discard(pid)

    def close(self) -> None:
        """Nobody will be looked for any more."""
        self._children.close()
        if self.siblings is not None:
            self.siblings.close()

    def reap(self) -> bool:
        """
        Wait for the orphans that have exited, without a look at who lives; whether none of those is left.

        Some may be when a job's own process is a child of this thread (apart.py), has exited, and comes first.
        """
        for _ in range(_REAPED_AT_ONCE):
            pid = _exited_child()
            if pid is None:
                return True
            if pid in self._mains or pid in self.others:
                return False
            self._wait_for(pid)
        return False

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
        """Children of ours that are nobody's own process, the newest first: of a chain of forks it is gone first."""
        siblings = [] if self.siblings is None else self.siblings.there()
        self.reap()
        own = [pid for pid in reversed(self._children()) if pid not in self._mains and pid not in self.others]
        return [pid for pid in [*siblings, *own] if pid not in skipped]

    def _tree(self, root: int, exited: set[int], seen: Callable[[Process], None]) -> list[Process]:
        """An orphan and all below it; none when it is spared or has exited, and then it is waited for."""
        stranger = self._strangers.get(root)
        if stranger is not None:
            return [stranger]
        found: list[Process] = []
        for process in tree(root, exited):
            if process.pid == root and self._spared.get(root) == process.start and not process.zombie:
                break
            if process.zombie:
                exited.add(process.pid)
            else:
                seen(process)
            found.append(process)
        if found and found[0].zombie:
            self._wait_for(root)
            return []
        return found

    def _wait_for(self, pid: int) -> None:
        """It has exited; the number may be given to somebody else from now on."""
        self._strangers.forget(pid)
        if self.siblings is not None:
            self.siblings.forget(pid)
        _reap(pid)


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


def _exited_child() -> int | None:
    """One of this thread's own children (wait(2)); it stays to be waited for."""
    with contextlib.suppress(ChildProcessError):
        exited = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT | _WNOTHREAD)
        return None if exited is None else exited.si_pid
    return None


def _reap(pid: int) -> None:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
