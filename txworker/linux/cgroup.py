"""A cgroup of its own for each job, where the kernel (cgroup.kill, Linux 5.14) and our rights allow it."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable
from pathlib import Path

from txworker.linux.own_cgroup import own_cgroup_path

_STALE_SECONDS = 5.0
"""How long the end of what a dead worker left is waited for; only what the kernel cannot end takes longer."""

_STALE_PAUSE = 0.005


class Cgroups:
    """
    Where the jobs' cgroups are: below `base`, in a directory of that name. No controller is enabled, only belonging
    counts.

    The name is the worker's own and the same after a restart, so that what it left when it died is found.

    Raises:
        OSError: it cannot be made.
        NotImplementedError: the kernel is too old.
    """

    def __init__(self, base: Path, name: str) -> None:
        if not os.access(base / "cgroup.procs", os.W_OK):  # moving a child needs this too (cgroups(7), delegation)
            raise PermissionError(f"{base}/cgroup.procs cannot be written")
        self._path = base / name
        self._path.mkdir(exist_ok=True)
        if not (self._path / "cgroup.kill").exists():
            self._path.rmdir()
            raise NotImplementedError(f"{base} has no cgroup.kill")

    @property
    def path(self) -> Path:
        """The directory that holds every job's; worth remembering, a restarted worker may have another base."""
        return self._path

    def of(self, job_id: str, path: str | None = None) -> JobCgroup:
        """That job's; whatever makes its process makes the directory first. path: where an earlier worker had it."""
        return JobCgroup(path or f"{self._path}/{job_id}")

    def end_stale(self) -> int:
        """Before the first job: end what a dead worker of this name left in here; how many that were. May block."""
        ended = end_stale(self._path)
        self._path.mkdir(exist_ok=True)
        return ended

    def close(self) -> None:
        """Take the directory away, with what is empty in it."""
        _remove_tree(str(self._path))


class JobCgroup:
    """Everything that a job starts is born in here, and cannot leave without our rights."""

    __slots__ = ("_removed", "path")

    def __init__(self, path: str) -> None:
        self.path = path
        self._removed = False

    def pids(self) -> list[int]:
        """Who is in it now, or in a cgroup below that the job has made. Zombies are not."""
        return _pids(self.path)

    def kill(self) -> None:
        """KILL to everybody in it at once; nobody can fork away (cgroup.kill, Linux 5.14)."""
        _kill(self.path)

    def remove(self) -> bool:
        """Take it away; False when somebody is still in it."""
        if not self._removed:
            try:
                os.rmdir(self.path)
                self._removed = True
            except OSError:
                _remove_tree(self.path)  # it may hold empty ones that the job has made
                self._removed = not os.path.exists(self.path)
        return self._removed


def end_stale(path: Path) -> int:
    """
    Kill everybody in that cgroup of a dead worker's and below it, and take it away; how many that were.

    Blocks until they are gone, a few seconds at most. A directory that is not there, or that holds this very process,
    is left alone.
    """
    place = str(path)
    seen: set[int] = set()
    deadline = time.monotonic() + _STALE_SECONDS
    while True:
        _remove_tree(place)
        here = _pids(place)
        if not os.path.isdir(place) or os.getpid() in here or time.monotonic() > deadline:
            return len(seen)
        seen.update(here)
        _kill(place)
        time.sleep(_STALE_PAUSE)


def end_elsewhere(path: Path, name: str, job_ids: Iterable[str] | None) -> int:
    """
    The same with the cgroups of these jobs, or of all, of a worker of that name that had its own elsewhere.

    The path was written down long ago. What is not, or no longer, such a directory is left alone.
    """
    if path.name != name or not (path / "cgroup.kill").exists():
        return 0
    ended = end_stale(path) if job_ids is None else sum(end_stale(path / job_id) for job_id in job_ids)
    _remove_tree(str(path))
    return ended


def own_cgroup() -> Path:
    """
    The directory of this process's cgroup in the v2 hierarchy.

    Raises:
        OSError: there is no such hierarchy.
    """
    return Path(own_cgroup_path())


def _pids(path: str) -> list[int]:
    found: list[int] = []
    for place, _, _ in os.walk(path):
        with contextlib.suppress(OSError), open(os.path.join(place, "cgroup.procs")) as file:
            found += map(int, file.read().split())
    return found


def _kill(path: str) -> None:
    with contextlib.suppress(OSError), open(os.path.join(path, "cgroup.kill"), "w") as file:  # gone, or threaded
        file.write("1")


def _remove_tree(path: str) -> None:
    for place, _, _ in os.walk(path, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(place)
