"""
Starting a job's process, in the spawn thread: by posix_spawn, or by fork and exec where code must run in the child.

Limits, another user and a controlling terminal must be set between the fork and the first instruction of the program.
"""

from __future__ import annotations

import contextlib
import os
from collections import ChainMap
from collections.abc import Callable, Mapping

from txworker.linux.posix_spawn import PosixSpawn
from txworker.linux.rlimit_tag import tagged
from txworker.shim.cgroup_moves import Moves
from txworker.shim.children_limit import ChildrenLimit
from txworker.shim.fork_exec import CannotClone, fork_exec

TYPE_CHECKING = False
if TYPE_CHECKING:  # the module itself costs a small program a megabyte
    from typing import Any

    SpawnRequest = Mapping[str, Any]
    """The message `spawn` (messages.py)."""
else:
    SpawnRequest = Mapping


class Spawner:
    """
    environment and the limit are what every job inherits (`defaults` of the message hello).

    Used by one thread, which has a descriptor table, a umask and a working directory of its own.
    """

    def __init__(self, limit: ChildrenLimit) -> None:
        self._limit = limit
        self._posix_spawn = PosixSpawn()
        self._moves = Moves()
        self.environment: Mapping[str, str] = {}

    def spawn(self, request: SpawnRequest, descriptors: Mapping[int, int], started: Callable[[int], None]) -> None:
        """
        Start the process; calls started(pid) as soon as it runs. descriptors: the shim's, by the job's 0, 1 and 2.

        Raises:
            OSError: there is no process. `filename` is the directory, the program, or the step that failed.
        """
        environment = request["env"] if request["whole_env"] else ChainMap(request["env"], self.environment)  # type: ignore[arg-type]  # nothing writes into the last map
        if request["cgroup"]:
            os.mkdir(request["cgroup"])
        try:
            self._spawn(request, environment, descriptors, started)
        except BaseException:
            if request["cgroup"]:
                with contextlib.suppress(OSError):
                    os.rmdir(request["cgroup"])
            raise

    def _spawn(
        self,
        request: SpawnRequest,
        environment: Mapping[str, str],
        descriptors: Mapping[int, int],
        started: Callable[[int], None],
    ) -> None:
        if request["limits"] or request["user"] or request["nice"] or request["terminal"]:
            started(self._forked(request, environment, descriptors))
            return
        if request["cgroup"] and not self._moves.quick():
            with contextlib.suppress(CannotClone):  # in a sandbox without clone3 it is moved
                started(fork_exec(request, environment, descriptors, self._limit.wanted))
                return
        start = self._posix_spawn.prepared(request["argv"], environment, request["directory"], descriptors)
        with _opened_members(request["cgroup"]) as members:
            with self._limit.lowered(), tagged(request["tag"]):
                pid = start()
                _write(members, pid)  # first of all: what the child starts before is outside its cgroup
            started(pid)  # at once: the child competes with this thread for the CPU
            move_descendants(members, pid)
        if request["oom_score_adj"]:
            with _opened(f"/proc/{pid}/oom_score_adj") as score:
                _write(score, request["oom_score_adj"])

    def _forked(self, request: SpawnRequest, environment: Mapping[str, str], descriptors: Mapping[int, int]) -> int:
        try:
            return fork_exec(request, environment, descriptors, self._limit.wanted)
        except CannotClone:
            if not request["cgroup"]:
                raise
            return fork_exec(request, environment, descriptors, self._limit.wanted, clone=False)


def _opened_members(cgroup: str | None) -> contextlib.AbstractContextManager[int]:
    """The file to which a process is written that becomes a member; -1 without a cgroup."""
    return _opened(f"{cgroup}/cgroup.procs") if cgroup else contextlib.nullcontext(-1)


def move_descendants(members: int, pid: int) -> None:
    """
    Move what a process started before it was moved itself. Each is moved before its own children are listed, so what
    these start meanwhile is inside.
    """
    moved = [pid] if members >= 0 else []
    while moved:
        for child in children_of(moved.pop()):
            _write(members, child)
            moved.append(child)


def children_of(pid: int, thread_id: int = 0) -> list[int]:
    """
    The children of that thread of a process, or of its first one; none when it has exited, or when no descriptor is
    free to read them with.
    """
    try:
        with open(f"/proc/{pid}/task/{thread_id or pid}/children", "rb", buffering=0) as file:
            return list(map(int, file.read().split()))
    except OSError:
        return []


@contextlib.contextmanager
def _opened(path: str) -> Any:
    """A file of the kernel's for writing; -1 where it cannot be opened, as when its process has exited."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        fd = -1
    try:
        yield fd
    finally:
        if fd >= 0:
            os.close(fd)


def _write(fd: int, value: int) -> None:
    """Write to a kernel's file about a child. It is not an error if the child has exited."""
    if fd >= 0:
        with contextlib.suppress(OSError):
            os.write(fd, b"%d" % value)
