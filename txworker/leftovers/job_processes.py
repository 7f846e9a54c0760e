"""The processes of one job besides its leader, as a cleanup finds and signals them; and the scans that find them."""

from __future__ import annotations

import signal as signals
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from twisted.internet.defer import Deferred

from txworker.leftovers.attribution import JobLeader
from txworker.linux.cgroup import JobCgroup
from txworker.linux.procfs import Process, ProcessTable


class LeftoverScan(Protocol):
    """
    Finds what jobs left behind: DescendantScan (scan.py) where there is a shim, ProcessTableScan where there is none.
    """

    def expect(self, job_id: str) -> JobLeader:
        """A job leader is about to be launched. The handle names it in all other calls."""

    def enter(self, leader: JobLeader, pid: int) -> None:
        """The launch has succeeded."""

    def exited(self, leader: JobLeader) -> None:
        """The job leader has exited."""

    def leave(self, leader: JobLeader) -> None:
        """The launch has failed, or the job is over and nothing remains of it, or nothing is to be looked for."""

    def keep(self, leader: JobLeader) -> None:
        """The job is over and what it left behind may run on."""

    def keep_earlier(self, job_id: str, pid: int) -> None:
        """An earlier worker's job, of which the leader had that pid, is over, and what it left behind may run on."""

    def remaining(self, job_id: str) -> Deferred[list[Process]]:
        """Fires with what is left of a job, at once or a little later; fails when /proc cannot be read."""

    def kill(self, job_id: str, found: list[Process]) -> list[Process]:
        """
        KILL these and everything else of the job that there is or that appears meanwhile; returns all of them.

        Raises:
            OSError: /proc cannot be read.
        """

    def kill_all(self, is_kept: Callable[[str], bool] = ...) -> None:
        """KILL what all jobs left behind, but for jobs for which is_kept(job_id). Blocks for two seconds at most."""

    def close(self) -> None:
        """
        Stop looking. Pending answers never fire, and nor do later ones: a cleanup of what cannot be ended goes on for
        as long as the reactor does.
        """


@dataclass(frozen=True)
class Remaining:
    """What is left of a job. more: its cgroup is not empty, whatever was found."""

    processes: list[Process]
    more: bool = False


class JobProcesses:
    """One job's, as a scan finds them, and by cgroup where it has one. Reactor thread."""

    def __init__(
        self, job_id: str, scan: LeftoverScan, cgroup: JobCgroup | None, table: ProcessTable | None = None
    ) -> None:
        self._job_id = job_id
        self._scan = scan
        self._cgroup = cgroup
        self._table = table or ProcessTable()

    def remaining(self) -> Deferred[Remaining]:
        """Fires with what is left, at once or a little later; fails when /proc cannot be read."""
        return self._scan.remaining(self._job_id).addCallback(self._with_cgroup)

    def term(self, process: Process) -> None:
        """TERM, and CONT, because a stopped process does not handle TERM."""
        self._table.send(process, signals.SIGTERM)
        self._table.send(process, signals.SIGCONT)

    def kill(self, found: list[Process]) -> list[Process]:
        """
        KILL the whole cgroup at once, and these and all others that are found or appear meanwhile; returns the latter.

        Raises:
            OSError: /proc cannot be read.
        """
        self.kill_cgroup()
        return self._scan.kill(self._job_id, found)

    def kill_cgroup(self) -> None:
        """KILL the cgroup, where there is one; needs no look at /proc."""
        if self._cgroup is not None:
            self._cgroup.kill()

    def close(self) -> None:
        """Nothing is left, or nothing is to be looked for: remove the cgroup. One that is not empty stays."""
        if self._cgroup is not None:
            self._cgroup.remove()

    def _with_cgroup(self, found: list[Process]) -> Remaining:
        if self._cgroup is None or self._cgroup.remove():
            return Remaining(found)
        known = {process.pid for process in found}
        inside = (self._table.read(pid) for pid in self._cgroup.pids() if pid not in known)
        return Remaining(found + [process for process in inside if process is not None and not process.zombie], True)
