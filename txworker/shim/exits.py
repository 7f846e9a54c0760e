"""Watches for the exits of jobs' processes: by a pidfd each, or by SIGCHLD where no pidfd can be had."""

from __future__ import annotations

import os
from collections.abc import Callable

from txworker.linux.wait import exit_of
from txworker.shim.children_limit import HighNumbers, with_room
from txworker.shim.events import Events
from txworker.shim.held_job import HeldJob


class Exits:
    """
    exited(job) is called once for each job, when job.exit is known. lift(): as ChildrenLimit.lift(). The loop's thread.
    """

    def __init__(
        self, events: Events, numbers: HighNumbers, lift: Callable[[], bool], exited: Callable[[HeldJob], None]
    ) -> None:
        self._events = events
        self._numbers = numbers
        self._lift = lift
        self._exited = exited
        self._pidfds: dict[str, int] = {}
        self._without_pidfd: dict[str, HeldJob] = {}

    def watch(self, job: HeldJob) -> None:
        """Watch its process, which may have exited already."""
        try:
            pidfd = self._numbers.high(with_room(lambda: os.pidfd_open(job.pid), self._lift))
            self._pidfds[job.id] = pidfd
            self._events.watch(pidfd, lambda: self._look_at(job))
        except OSError:  # no number is free, or the kernel lacks memory
            self._without_pidfd[job.id] = job
            self._look_at(job)

    def forget(self, job: HeldJob) -> None:
        """Watch it no longer."""
        self._without_pidfd.pop(job.id, None)
        pidfd = self._pidfds.pop(job.id, None)
        if pidfd is not None:
            self._events.unwatch(pidfd)
            os.close(pidfd)

    def look(self) -> None:
        """After SIGCHLD."""
        for job in list(self._without_pidfd.values()):
            self._look_at(job)

    def _look_at(self, job: HeldJob) -> None:
        exit = exit_of(job.pid)
        if exit is not None:
            self.forget(job)
            job.exited(exit)
            self._exited(job)
        elif job.id in self._pidfds:
            # A debugger has it (ptrace(2)). The pidfd stays readable; SIGCHLD tells when the debugger lets go.
            self.forget(job)
            self._without_pidfd[job.id] = job
