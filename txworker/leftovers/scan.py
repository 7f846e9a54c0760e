"""
The scan for what is left of a job: the shim's descendants that belong to it.

The shim adopts orphans (PR_SET_CHILD_SUBREAPER, prctl(2)). So what a job leader left behind when it exited is below a
child of the shim that is not a job leader: an orphan, or a CLONE_PARENT child (clone_parent.py). When there is none,
nothing is left of any job, and reading two lists tells that. Processes that do not descend from the shim are not read.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from txworker.base.reactor import Clock, Timer
from txworker.leftovers.attribution import JobLeader, attribute
from txworker.leftovers.clone_parent import CloneParentChildren
from txworker.leftovers.descendants import Descendants, StartTime
from txworker.leftovers.job_processes import LeftoverScan
from txworker.leftovers.kill import Choice, Killer
from txworker.leftovers.late_scan import LateScan
from txworker.leftovers.tag_cache import TagCache, Untagged
from txworker.leftovers.tags import all_tags
from txworker.linux.procfs import Process, ProcessTable

_SHARE = 10
"""Scans take at most a tenth of the reactor's time; with many running jobs one serves all that ended meanwhile."""

_ATTEMPTS = 5
_ATTEMPT_SECONDS = 0.05
"""After that an incomplete scan is not repeated at once: the reactor has other work."""

_INCOMPLETE_PAUSE = 0.002

_KEPT_SECONDS = 1.0
"""After the end of a job that keeps its leftovers, a scan looks whether there are any."""


class DescendantScan(LeftoverScan):
    """The LeftoverScan where there is a shim. It knows every job leader. Reactor thread."""

    def __init__(
        self,
        clock: Clock,
        shim_pid: int,
        thread_id: int,
        table: ProcessTable | None = None,
        killer: Killer | None = None,
    ) -> None:
        """thread_id: the shim's thread that is the parent of the job leaders."""
        self._clock = clock
        self._table = table = table or ProcessTable()
        self._killer = killer or Killer(table)
        self._leaders: dict[int, JobLeader] = {}
        self._launching: set[JobLeader] = set()
        self._kept: list[JobLeader] = []
        self._untagged = Untagged(clock, table)
        self._tag_cache = TagCache(self._leaders, self._untagged, shim_pid, table)
        clone_parent = CloneParentChildren(
            shim_pid, thread_id, self._leaders, self._launching, self._tag_cache.read, table
        )
        self.descendants = Descendants(shim_pid, self._leaders, self._untagged, clone_parent, table)
        self._late_scan = LateScan(clock, self.descendants, self._leaders, self._tag_cache, self._kill)
        self._asked: list[tuple[str, Deferred[list[Process]]]] = []
        self._timer: Timer | None = None
        self._due = 0.0
        self._not_before = 0.0
        self._closed = False

    def expect(self, job_id: str) -> JobLeader:
        """As LeftoverScan. From now on an orphan without a tag may be this job's."""
        now = self._table.now()
        leader = JobLeader(job_id, None, lambda: now)
        self._launching.add(leader)
        self._tag_cache.add(leader)
        return leader

    def enter(self, leader: JobLeader, pid: int) -> None:
        """As LeftoverScan. Its start time is read from /proc when a decision needs it."""
        for kept in self._kept:
            if kept.pid == pid:  # the pid was free, so no process is in that job's session any more
                kept.pid = None
        self._launching.discard(leader)
        leader.pid, leader.start = pid, StartTime(pid, self._table)
        self._leaders[pid] = leader

    def exited(self, leader: JobLeader) -> None:
        """The job leader has exited: soon there is one more scan for children that it made beside itself."""
        leader.exited = True
        self._late_scan.schedule()

    def leave(self, leader: JobLeader) -> None:
        """As LeftoverScan. Its tag stays known for as long as a late scan may find something of it."""
        if self._remove(leader) and not self._late_scan.takes(leader):
            self._tag_cache.remove(leader)

    def keep(self, leader: JobLeader) -> None:
        """
        The job is over and what it left behind may run on. It stays known as that job's: otherwise it would be
        attributed to another job that ran at the same time.
        """
        self._remove(leader)
        leader.exited = True
        self._kept.append(leader)
        self._tag_cache.add(leader)
        self._schedule(_KEPT_SECONDS)

    def keep_earlier(self, job_id: str, pid: int) -> None:
        """As keep(). The leader's start time is unknown, so it counts as started before every process."""
        self.keep(JobLeader(job_id, pid, lambda: 0))

    def remaining(self, job_id: str) -> Deferred[list[Process]]:
        """As LeftoverScan. One scan answers all that was asked until it begins."""
        answer: Deferred[list[Process]] = Deferred()
        if not self._closed:
            self._asked.append((job_id, answer))
            self._schedule(0.0)
        return answer

    def kill(self, job_id: str, found: list[Process]) -> list[Process]:
        """As LeftoverScan. Blocks for KILL_SECONDS (kill.py) and one more scan at most."""
        return self._kill(found, lambda forest: self._by_job(forest).get(job_id, []))

    def close(self) -> None:
        """As LeftoverScan."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._asked.clear()
        self._late_scan.close()
        self.descendants.close()
        self._untagged.close()

    def kill_all(self, is_kept: Callable[[str], bool] = lambda job_id: False) -> None:
        """
        KILL everything below the shim but job leaders and what is below them, whichever job it is attributed to,
        because no job runs any more. What is left of a job that keeps it, as is_kept(job_id) says, runs on.

        Blocks until all are gone, two seconds at most.
        """

        def to_kill(forest: list[Process]) -> list[Process]:
            return [process for process in self._not_kept(is_kept, forest) if not process.zombie]

        def kill_once() -> bool:
            """Whether there was something to kill."""
            self.descendants.clone_parent.scan()
            return bool(self._kill([], to_kill))

        self._killer.until_none_is_left(kill_once)

    def _remove(self, leader: JobLeader) -> bool:
        """Returns whether it was known."""
        if leader in self._launching:
            self._launching.remove(leader)
            return True
        if leader.pid is None or self._leaders.pop(leader.pid, None) is None:
            return False
        self.descendants.clone_parent.over(leader.pid)
        return True

    def _kill(self, found: list[Process], choice: Choice) -> list[Process]:
        for process in found:
            self._untagged.forget(process.pid)  # then what is below it is read, too
        return self._killer.kill(found, self._scan_to_kill, choice)

    def _scan_to_kill(self, skipped: Container[int]) -> list[Process]:
        clone_parent = self.descendants.clone_parent
        if clone_parent.known:
            clone_parent.scan()
        return self.descendants.scan(skipped, self._tag_cache.see)[0]

    def _not_kept(self, is_kept: Callable[[str], bool], forest: list[Process]) -> list[Process]:
        tags = {tag for leader in self._kept for tag in leader.tags}
        sessions = {leader.pid for leader in self._kept}
        kept: set[int] = set()
        for process in forest:
            if (
                process.parent in kept
                or process.session in sessions
                or any(
                    tag in tags or (isinstance(tag, str) and is_kept(tag)) for tag in all_tags(process.pid, self._table)
                )
            ):
                kept.add(process.pid)
        return [process for process in forest if process.pid not in kept]

    def _schedule(self, seconds: float) -> None:
        now = self._clock.seconds()
        due = max(now + seconds, self._not_before)
        if self._timer is not None:
            if due >= self._due:
                return
            self._timer.cancel()
            self._timer = None
        if due <= now:
            self._answer()
        else:
            self._due = due
            self._timer = self._clock.callLater(due - now, self._answer)

    def _answer(self) -> None:
        self._timer = None
        asked, self._asked = self._asked, []
        begun = self._clock.seconds()
        try:
            remaining, certain = self._scan()
        except Exception:  # an unexpected error, too, must reach the callers, or their jobs would never end
            for _, answer in asked:
                answer.errback(Failure())
            return
        ended = self._clock.seconds()
        self._not_before = ended + _SHARE * (ended - begun)
        for job_id, answer in asked:
            if certain or job_id in remaining:
                self._late_scan.answered(job_id, job_id in remaining)
                answer.callback(remaining.get(job_id, []))
            else:
                self._asked.append((job_id, answer))
                self._schedule(_INCOMPLETE_PAUSE)

    def _scan(self) -> tuple[dict[str, list[Process]], bool]:
        """What remains of each job; and whether certainly nothing of the jobs that are not in it was missed."""
        deadline = self._clock.seconds() + _ATTEMPT_SECONDS
        for _ in range(_ATTEMPTS):
            forest, complete = self.descendants.scan(seen=self._tag_cache.see)
            remaining = self._by_job(forest)
            certain = complete and not self._any_exited(forest, remaining)
            if certain or self._clock.seconds() > deadline:
                break
        self._tag_cache.retain(forest)
        if self._kept and certain:
            self._forget_kept(remaining)
        return remaining, certain

    def _forget_kept(self, remaining: Mapping[str, list[Process]]) -> None:
        """Forget those jobs that keep their leftovers and have none left."""
        for leader in [leader for leader in self._kept if leader.job_id not in remaining]:
            self._kept.remove(leader)
            self._tag_cache.remove(leader)

    def _any_exited(self, forest: list[Process], remaining: dict[str, list[Process]]) -> bool:
        attributed = {process.pid for processes in remaining.values() for process in processes}
        return self.descendants.any_exited(process for process in forest if process.pid not in attributed)

    def _by_job(self, forest: list[Process]) -> dict[str, list[Process]]:
        """The processes that are not zombies, by the jobs that they are attributed to."""
        if not forest:
            return {}
        kept = {leader.pid: leader for leader in self._kept if leader.pid is not None}
        others = [*self._launching, *(leader for leader in self._kept if leader.pid is None)]
        jobs = attribute(forest, {**kept, **self._leaders} if kept else self._leaders, others, self._tag_cache.of)
        found: dict[str, list[Process]] = {}
        for process in forest:
            for job_id in () if process.zombie else jobs[process.pid]:
                found.setdefault(job_id, []).append(process)
        return found
