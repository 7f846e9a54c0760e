"""
What each running job uses: its process, all processes in its session, and all that descend from these; with a cgroup,
everything that is in it.

Without a cgroup a process is not counted if it has left the session and its parents have exited: its tags would have to
be read, which takes as long as all the rest.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from txworker.jobs.errors import OutOfResources
from txworker.jobs.live_usage import LiveUsage, RunningProcess
from txworker.linux.cgroup import JobCgroup
from txworker.linux.process_usage import ProcessUsage, cgroup_cpu, process_usage
from txworker.linux.procfs import ProcessTable

MAX_SECONDS = 5.0
"""A look at 10,000 processes takes some 200 ms on an idle machine."""

_CHECKED_EVERY = 64
"""Processes, some 2 ms of reading."""

Check = Callable[[], None] | None


class LiveUsageReader:
    """
    Implements ports.LiveUsages. Any thread but the reactor's, one at a time: others wait for it.

    root: of /proc.
    """

    def __init__(self, root: str = "/proc", monotonic: Callable[[], float] = time.monotonic) -> None:
        self._root = root
        self._monotonic = monotonic
        self._lock = threading.Lock()

    def read(self, running: Sequence[RunningProcess], check: Check = None) -> list[LiveUsage]:
        """
        The usage of each of these jobs, in their order.

        Raises:
            OutOfResources: it takes longer than MAX_SECONDS, or /proc cannot be read.
        """
        deadline = self._monotonic() + MAX_SECONDS
        if not self._lock.acquire(timeout=MAX_SECONDS):
            raise _too_long()
        try:
            return list(self._read(running, lambda: self._check(deadline, check)))
        except OSError as error:
            raise OutOfResources(f"the worker cannot read /proc now: {error.strerror or error}") from error
        finally:
            self._lock.release()

    def _read(self, running: Sequence[RunningProcess], check: Callable[[], None]) -> Iterator[LiveUsage]:
        without = {one.pid: one.job_id for one in running if one.cgroup is None}
        found = self._by_descent(without, check) if without else {}
        for one in running:
            check()
            if one.cgroup is None:
                yield _sum(one, found.get(one.job_id, ()))
            else:
                yield _sum(one, self._usages({one.pid, *JobCgroup(one.cgroup).pids(check)}, check))

    def _by_descent(self, leaders: dict[int, str], check: Callable[[], None]) -> dict[str, list[ProcessUsage]]:
        """The processes of each job, by its id, from all processes of the machine; leaders: job ids by pid."""
        table = {process.pid: process for process in self._usages(ProcessTable(self._root).pids(), check)}
        known: dict[int, str] = {}
        found: dict[str, list[ProcessUsage]] = {}
        for process in table.values():
            job_id = _job_of(process, table, leaders, known)
            if job_id:
                found.setdefault(job_id, []).append(process)
        return found

    def _usages(self, pids: Iterable[int], check: Callable[[], None]) -> Iterator[ProcessUsage]:
        for count, pid in enumerate(pids):
            if count % _CHECKED_EVERY == 0:
                check()
            process = process_usage(pid, self._root)
            if process is not None:
                yield process

    def _check(self, deadline: float, check: Check) -> None:
        if self._monotonic() > deadline:
            raise _too_long()
        if check is not None:
            check()


def _job_of(
    process: ProcessUsage, table: dict[int, ProcessUsage], leaders: dict[int, str], known: dict[int, str]
) -> str:
    """The job of a process, empty when it has none. `known` has the jobs of processes that were asked for before."""
    path: dict[int, str] = {}
    job_id = None
    one: ProcessUsage | None = process
    while one is not None and job_id is None and one.pid not in path:
        path[one.pid] = ""
        job_id = known.get(one.pid, leaders.get(one.pid, leaders.get(one.session)))
        one = table.get(one.parent)
    known.update(dict.fromkeys(path, job_id or ""))
    return job_id or ""


def _sum(running: RunningProcess, processes: Iterable[ProcessUsage]) -> LiveUsage:
    count = rss_bytes = 0
    user = system = 0.0
    for process in processes:
        count += not process.zombie
        rss_bytes += process.rss_bytes
        user += process.user_seconds
        system += process.system_seconds
    cpu = None if running.cgroup is None else cgroup_cpu(running.cgroup)
    return LiveUsage(running.job_id, count, rss_bytes, *(cpu or (user, system)))


def _too_long() -> OutOfResources:
    return OutOfResources(f"the processes of this machine could not be read within {MAX_SECONDS:g} s")
