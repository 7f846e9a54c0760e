"""
What the shim does while no worker is connected: it copies output, and enforces the limits of jobs.

Deadlines are of the monotonic clock. The leftovers of a job that ends meanwhile are ended by the next worker.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping

from txworker.linux.wait import exit_of
from txworker.shim.copying import Copying, KeptCopying, is_readable, recorded_bytes
from txworker.shim.events import Events
from txworker.shim.held_job import HeldJob
from txworker.shim.intermediate import IntermediatePipes, drain

TIMEOUT, QUIET, UNATTENDED = "timeout", "quiet", "unattended"
"""Why the shim ended a job; the next worker records it."""

_CHECK_SECONDS = 0.1
"""How often the deadlines are checked."""


class Unattended:
    """
    jobs: the shim's jobs by their ids; the mapping changes as jobs come and go. abandoned: whether abandon() was called
    since the last worker. placed: as for Copying.
    """

    def __init__(
        self,
        events: Events,
        jobs: Mapping[str, HeldJob],
        pipes: IntermediatePipes,
        placed: Callable[[int], int] = int,
    ) -> None:
        self._events = events
        self._jobs = jobs
        self._pipes = pipes
        self._placed = placed
        self._copying: dict[tuple[str, int], Copying] = {}
        self._kept: set[Copying] = set()
        self._all_copied = True
        self._directory = -1
        self._since: float | None = None
        self._seconds = 0.0
        self.active = False
        self.abandoned = False

    @property
    def keeps(self) -> bool:
        """Whether kept leftovers hold pipes open."""
        return bool(self._kept)

    @property
    def kept(self) -> list[tuple[str, int]]:
        """The jobs with kept leftovers that hold pipes open, with the pids of the job leaders."""
        return sorted({(copying.job.id, copying.job.pid) for copying in self._kept})

    def begin(self, directory: int, seconds: float) -> None:
        """
        The worker is gone. directory: of the output. seconds: until every job is ended, from the end of the last worker
        that served; 0: never.
        """
        self.active = True
        self._directory = directory
        now = time.monotonic()
        if self._since is None:
            self._since = now
        self._seconds = seconds
        for job in self._with_quiet_timeout():
            recorded = recorded_bytes(directory, job)
            if recorded < 0 or recorded != job.recorded_bytes:  # it may have printed to the worker until now
                job.last_output = now
        for job_id, child_fd, pipe in self._pipes.left():
            owner = self._jobs.get(job_id)
            if owner is not None and child_fd in owner.pipes:
                copying = Copying(directory, owner, child_fd, self._over, self._placed)
                drain(copying, pipe)
                copying.close()
        for job in self._jobs.values():
            self.add(job)

    def abandon(self) -> None:
        """No worker will come: end every job, as after `seconds`."""
        self.abandoned = True

    def add(self, job: HeldJob) -> None:
        """Copy the output of one more job; where a pipe cannot be watched, enforce() tries again."""
        for child_fd in job.pipes:
            if (job.id, child_fd) not in self._copying:
                try:
                    self._add(Copying(self._directory, job, child_fd, self._over, self._placed))
                except OSError:
                    self._all_copied = False

    def end(self) -> None:
        """A worker is connected."""
        if self.active:
            for job in self._with_quiet_timeout():
                job.recorded_bytes = recorded_bytes(self._directory, job)
        self.active = self.abandoned = False
        for copying in self._copying.values():
            self._stop(copying)
        self._copying.clear()

    def worker_serves(self) -> None:
        """The worker that is connected serves, so it has taken the jobs over."""
        self._since = None

    def keep(self, directory: int, job: HeldJob) -> bool:
        """The job is over: copy what its leftovers print. Returns whether any of its pipes is still held open."""
        for child_fd, pipe in list(job.pipes.items()):
            kept = KeptCopying(directory, job, child_fd, self._kept_over, self._placed)
            try:
                self._events.watch(pipe, kept.ready)
            except OSError:  # what its leftovers print cannot be read: they get SIGPIPE
                kept.close()
                os.close(job.pipes.pop(child_fd))
                continue
            self._kept.add(kept)
        return bool(job.pipes)

    def enforce(self) -> float | None:
        """End overdue jobs; returns the seconds until the next check, or None when no deadline is to come."""
        if not self.active:
            return None
        now = time.monotonic()
        overdue = self._seconds and self._since is not None and now - self._since >= self._seconds
        unattended = self.abandoned or bool(overdue)
        waits = [self._enforce(job, now, unattended) for job in self._jobs.values()]
        waits.append(not self._all_copied)
        self._add_missing()
        return _CHECK_SECONDS if any(waits) or (self._seconds and not unattended) else None

    def _with_quiet_timeout(self) -> list[HeldJob]:
        return [job for job in self._jobs.values() if job.request["quiet"] is not None]

    def _enforce(self, job: HeldJob, now: float, unattended: bool) -> bool:
        """Returns whether the job has a deadline that is still to come."""
        if job.kill_at is not None:
            if now >= job.kill_at:
                job.kill()
            return job.kill_at is not None
        if job.exit is not None or job.reason is not None:
            return False
        reason = self._overdue(job, now) or (UNATTENDED if unattended else None)
        if reason:
            if exit_of(job.pid) is None:  # or the loop was stopped by a signal, and hears of the exit only next
                job.end(reason)
            return True
        return job.timeout_at is not None or job.request["quiet"] is not None

    def _overdue(self, job: HeldJob, now: float) -> str | None:
        if job.timeout_at is not None and now >= job.timeout_at:
            return TIMEOUT
        quiet = job.request["quiet"]
        if quiet is not None and now - job.last_output >= quiet and not any(map(is_readable, job.pipes.values())):
            return QUIET
        return None

    def _add(self, copying: Copying) -> None:
        """
        Raises:
            OSError: the pipe cannot be watched.
        """
        self._events.watch(copying.pipe, copying.ready)
        self._copying[copying.job.id, copying.child_fd] = copying

    def _add_missing(self) -> None:
        if not self._all_copied:
            self._all_copied = True
            for job in self._jobs.values():
                self.add(job)

    def _over(self, copying: Copying) -> None:
        """The pipe has ended. The read end stays open, because the next worker must see the end too."""
        self._stop(copying)

    def _stop(self, copying: Copying) -> None:
        self._events.unwatch(copying.pipe)
        copying.close()

    def _kept_over(self, copying: Copying) -> None:
        self._stop(copying)
        self._kept.discard(copying)
        os.close(copying.job.pipes.pop(copying.child_fd))
