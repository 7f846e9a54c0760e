"""
The scan for CLONE_PARENT children of jobs that are over. Among many jobs they are not looked for at the end of each
job, so this scan does it once a second for all jobs that have ended since.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from txworker.base.logs import Logger
from txworker.base.reactor import Clock, Timer
from txworker.leftovers.attribution import JobLeader, attribute
from txworker.leftovers.descendants import Descendants
from txworker.leftovers.kill import Choice
from txworker.leftovers.tag_cache import TagCache
from txworker.linux.procfs import Process

LATE_SCAN_SECONDS = 1.0
"""Between two scans, if a job leader has exited since the last one or a job is over that was not checked."""

_SHARE = 10
"""At most a tenth of the reactor's time, as in scan.py."""


class LateScan:
    """
    sessions: the current job leaders by pid; the caller changes it. kill(found, choice) as in DescendantScan.

    The tags of a job that is not checked yet stay in the tag cache until it is. Reactor thread.
    """

    _log = Logger()

    def __init__(
        self,
        clock: Clock,
        descendants: Descendants,
        sessions: Mapping[int, JobLeader],
        tag_cache: TagCache,
        kill: Callable[[list[Process], Choice], list[Process]],
    ) -> None:
        self._clock = clock
        self._descendants = descendants
        self._sessions = sessions
        self._tag_cache = tag_cache
        self._kill = kill
        self._unchecked: set[str] = set()
        self._over: dict[int, JobLeader] = {}
        self._timer: Timer | None = None
        self._pause = LATE_SCAN_SECONDS
        self._closed = self._failing = False

    def schedule(self) -> None:
        """A job leader has exited: scan within a second or so."""
        if self._timer is None and not self._closed:
            self._timer = self._clock.callLater(self._pause, self._run)

    def answered(self, job_id: str, found: bool) -> None:
        """What remains of a job was told. A job of which nothing was found without a fresh scan is to be checked."""
        if found or self._descendants.clone_parent.is_cheap:
            self._unchecked.discard(job_id)
        else:
            self._unchecked.add(job_id)

    def takes(self, leader: JobLeader) -> bool:
        """A job is over. Returns whether it is still to be checked here."""
        if leader.job_id not in self._unchecked or leader.pid is None:
            return False
        self._unchecked.remove(leader.job_id)
        self._over[leader.pid] = leader
        self.schedule()
        return True

    def close(self) -> None:
        """Scan no more."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _run(self) -> None:
        self._timer = None
        begun = self._clock.seconds()
        try:
            self._scan()
            self._failing = False
        except OSError as error:  # there is no descriptor to read /proc with, which passes; the jobs stay to be checked
            if not self._failing:
                self._log.warn("Cannot look for CLONE_PARENT children of jobs: {error}", error=error)
            self._failing = True
        self._pause = max(LATE_SCAN_SECONDS, _SHARE * (self._clock.seconds() - begun))
        if self._over:
            self.schedule()

    def _scan(self) -> None:
        self._descendants.clone_parent.scan()
        found = []
        if self._descendants.clone_parent.known:
            found = self._of_jobs_over(self._descendants.scan(seen=self._tag_cache.see)[0])
        if found:
            pids = [process.pid for process in found]
            self._log.info("Jobs that are over left {pids} behind; ending them.", pids=pids)
            self._kill(found, self._of_jobs_over)
            return
        for leader in self._over.values():
            self._tag_cache.remove(leader)
        self._over.clear()

    def _of_jobs_over(self, forest: list[Process]) -> list[Process]:
        over = {leader.job_id for leader in self._over.values()}
        if not over:
            return []
        jobs = attribute(forest, {**self._over, **self._sessions}, (), self._tag_cache.of, eliminate=False)
        return [process for process in forest if not process.zombie and over.intersection(jobs[process.pid])]
