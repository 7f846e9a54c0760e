"""Whether the jobs are left to the next worker when this one stops; and a handover, which stops it so once."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ReactorNotRunning

from txworker.base.logs import Logger
from txworker.base.quantities import counted
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
        self._settled = False

    @property
    def leaves(self) -> bool:
        """Whether jobs that run when the worker stops are left to the next one."""
        return self.wanted and self._can_leave

    @property
    def stopping(self) -> bool:
        """The worker stops."""
        return self._settled

    def configure(self, wanted: bool) -> None:
        """From now on a stop leaves the jobs, or ends them. One that has begun is not changed."""
        if not self._settled:
            self.wanted = wanted

    def settle(self) -> None:
        """The worker stops: from now on `leaves` does not change."""
        self._settled = True

    def begin(self) -> Deferred[int]:
        """
        Stop the worker and leave its jobs. Fires at once with how many jobs that are. A repeated call is harmless.

        Raises (through the Deferred):
            HandoverRefused: the jobs run without the shim, or the worker is ending them already. Nothing happens.
        """
        running = len(self._worker.running_ids())
        if not self._can_leave:
            return self._refused(running, "would end with this worker, which runs without the shim")
        if self._begin_stop():
            self.wanted = True
            self.settle()
        if not self.leaves:
            return self._refused(running, "cannot be left, because this worker is stopping already and ends them")
        left = counted(running, "job is", "jobs are")
        self._log.info("Handing over: {left} left to the next worker.", left=left, running=running)
        return succeed(running)

    def _refused(self, running: int, why: str) -> Deferred[int]:
        error = HandoverRefused(running, why)
        self._log.error("No handover: {error}.", error=error)
        return fail(error)

    def _begin_stop(self) -> bool:
        """False: the worker is stopping already."""
        if self._settled:
            return False
        with suppress(ReactorNotRunning):
            self._stop()
            return True
        return False
