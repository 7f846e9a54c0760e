"""Leaving jobs to the next worker: what stopping means, and a handover, which stops so once, whatever is configured."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ReactorNotRunning

from txworker.base.logs import Logger
from txworker.jobs.errors import CannotLeave
from txworker.worker.worker import Worker


class Handover:
    """
    wanted: whether jobs that run when the worker stops are to be left to the next one. can_leave(): whether they can
    be, for they run through the shim. over() ends the worker. Reactor thread.
    """

    _log = Logger()

    def __init__(self, worker: Worker, wanted: bool, can_leave: Callable[[], bool], over: Callable[[], None]) -> None:
        self.wanted = wanted
        self._can_leave = can_leave
        self._worker = worker
        self._over = over

    @property
    def leaves(self) -> bool:
        """Jobs that run when the worker stops are left to the next one."""
        return self.wanted and self._can_leave()

    def begin(self) -> Deferred[int]:
        """
        Stop, and leave the jobs; again is harmless. Fires at once with how many that are.

        Raises (through the Deferred):
            CannotLeave: they run without the shim. Nothing happens.
        """
        running = len(self._worker.running_ids())
        if not self._can_leave():
            error = CannotLeave(running)
            self._log.error("No handover: {error}.", error=error)
            return fail(error)
        self._log.info("Handing over: {running} jobs are left to the next worker.", running=running)
        self.wanted = True
        with suppress(ReactorNotRunning):  # it is stopping already
            self._over()
        return succeed(running)
