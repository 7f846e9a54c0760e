"""A cgroup of its own for each job, where the kernel (cgroup.kill, Linux 5.14) and the worker's rights allow it."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

_STALE_SECONDS = 5.0
"""How long end_stale() blocks at most. Only a process that the kernel cannot end takes longer."""

_STALE_PAUSE = 0.005


class Cgroups:
    """
    The jobs' cgroups, in a directory of that name below `base`. No controller is enabled: a cgroup only says to which
    job a process belongs.

    The name is the worker's own and the same after a restart, so a new worker finds what a lost one left behind.

    Raises:
        OSError: the directory cannot be made.
        NotImplementedError: the kernel is too old.
    """

    def __init__(self, base: Path, name: str) -> None:
        if not os.access(base / "cgroup.procs", os.W_OK):  # to move a child needs it (cgroups(7), delegation)
            raise PermissionError(f"{base}/cgroup.procs cannot be written")
        self._path = base / name
        self._path.mkdir(exist_ok=True)
        if not (self._path / "cgroup.kill").exists():
            self._path.rmdir()
            raise NotImplementedError(f"{base} has no cgroup.kill")

    @property
    def path(self) -> Path:
        """The directory of all jobs' cgroups, to be recorded: after a restart the worker may have another base."""
        return self._path

    def of(self, job_id: str, path: str | None = None) -> JobCgroup:
        """One job's; the shim makes the directory before the process. path: where an earlier worker had it."""
        return JobCgroup(path or f"{self._path}/{job_id}")

    def end_stale(self) -> int:
        """
        Before the first job: end what a lost worker of this name left behind; returns the number of processes. Blocks
        as end_stale() does.
        """
        ended = end_stale(self._path)
        self._path.mkdir(exist_ok=True)
        return ended

    def close(self) -> None:
        """Remove the directory and the empty cgroups in it."""
        _remove_tree(str(self._path))


class JobCgroup:
    """
    Everything that a job starts is born in it, and cannot leave it without the worker's rights.

    removed: it is gone, so nothing is in it; the shim removes it, too.
    """

    __slots__ = ("path", "removed")

    def __init__(self, path: str) -> None:
        self.path = path
        self.removed = False

    def pids(self, check: Callable[[], object] = lambda: None) -> list[int]:
        """
        The processes in it, or in cgroups below that the job has made; zombies are not among them.

        check() is called before each cgroup is read, because a job may have made many; it may raise.
        """
        return _pids(self.path, check)

    def kill(self) -> None:
        """KILL all processes in it at once; none can fork away (cgroup.kill, Linux 5.14)."""
        _kill(self.path)

    def remove(self) -> bool:
        """Remove it; returns False when a process is still in it."""
        if not self.removed:
            try:
                os.rmdir(self.path)
                self.removed = True
            except OSError:
                _remove_tree(self.path)  # it may contain empty cgroups that the job has made
                self.removed = not os.path.exists(self.path)
        return self.removed


def end_stale(
    path: Path, monotonic: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
) -> int:
    """
    Kill all processes in that cgroup of a lost worker and below it, and remove it; returns how many that were.

    Blocks until they are gone, a few seconds at most. A directory that is not there, or that this process is in, is
    left alone.
    """
    directory = str(path)
    seen: set[int] = set()
    deadline = monotonic() + _STALE_SECONDS
    while True:
        _remove_tree(directory)
        pids = _pids(directory)
        if not os.path.isdir(directory) or os.getpid() in pids or monotonic() > deadline:
            return len(seen)
        seen.update(pids)
        _kill(directory)
        sleep(_STALE_PAUSE)


def end_elsewhere(path: Path, name: str, job_ids: Iterable[str] | None) -> int:
    """
    As end_stale(), for the cgroups of these jobs, or of all, of a worker that had its directory elsewhere.

    The path was recorded long ago. A directory that is not, or no longer, a worker's cgroup of that name is left alone.
    """
    if path.name != name or not (path / "cgroup.kill").exists():
        return 0
    ended = end_stale(path) if job_ids is None else sum(end_stale(path / job_id) for job_id in job_ids)
    _remove_tree(str(path))
    return ended


def _pids(path: str, check: Callable[[], object] = lambda: None) -> list[int]:
    found: list[int] = []
    for directory, _, _ in os.walk(path):
        check()
        with contextlib.suppress(OSError), open(os.path.join(directory, "cgroup.procs")) as file:
            found += map(int, file.read().split())
    return found


def _kill(path: str) -> None:
    with contextlib.suppress(OSError), open(os.path.join(path, "cgroup.kill"), "w") as file:  # gone, or threaded
        file.write("1")


def _remove_tree(path: str) -> None:
    for directory, _, _ in os.walk(path, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(directory)
