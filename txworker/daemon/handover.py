"""Whether the jobs are left to the next worker when this one stops; and a handover, which stops it so once."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ReactorNotRunning

from txworker.base.logs import Logger
from txworker.jobs.errors import HandoverRefused
from txworker.worker.worker import Worker


class Handover:
    """
    wanted: jobs that run when the worker stops are to be left to the next one. can_leave: they can be, because they run
    through the shim. stop() stops the worker. Reactor thread.
    """

    _log = Logger()

    def __init__(self, worker: Worker, wanted: bool, can_leave: bool, stop: Callable[[], None]) -> None:
        self.wanted = wanted
        self._can_leave = can_leave
        self._worker = worker
        self._stop = stop
        self._begun = False

    @property
    def leaves(self) -> bool:
        """Whether jobs that run when the worker stops are left to the next one."""
        return self.wanted and self._can_leave

    def configure(self, wanted: bool) -> None:
        """From now on a stop leaves the jobs, or ends them. A handover that has begun is not changed."""
        if not self._begun:
            self.wanted = wanted

    def begin(self) -> Deferred[int]:
        """
        Stop the worker and leave its jobs. Fires at once with how many jobs that are. A repeated call is harmless.

        Raises (through the Deferred):
            HandoverRefused: the jobs run without the shim. Nothing happens.
        """
        running = len(self._worker.running_ids())
        if not self._can_leave:
            error = HandoverRefused(running)
            self._log.error("No handover: {error}.", error=error)
            return fail(error)
        self._log.info("Handing over: {running} jobs are left to the next worker.", running=running)
        self._begun = self.wanted = True
        with suppress(ReactorNotRunning):  # it is stopping already
            self._stop()
        return succeed(running)
