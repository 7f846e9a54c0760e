"""The time limits of one running process: timeout, quietTimeout and lease. Reactor thread."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from txworker.jobs import EndReason
from txworker.process.timers import Timers

_READING_SECONDS = 0.1
"""The time that the reactor gets to read what the pipes hold."""

_EXIT_SECONDS = 1.0
"""How long until it is looked again whether a process that has exited is told of."""

_STOOD_STILL_SECONDS = 1.0
"""A timer that is this late shows that the worker was suspended: stopped by a signal, or in a frozen cgroup."""


@dataclass(frozen=True)
class TimeLimits:
    """
    grace_seconds: between TERM and KILL when a time limit expires.
    drain_seconds: how long the leftovers of a process that exited by itself may take to end, and then how long its
    output is awaited when another process holds the pipe open.
    timeout_seconds, quiet_seconds, lease_seconds: the job's timeout, quietTimeout and lease; None: no such limit.
    """

    grace_seconds: float
    drain_seconds: float
    timeout_seconds: float | None = None
    quiet_seconds: float | None = None
    lease_seconds: float | None = None


class LimitTimers:
    """
    The timers that tell when a process has passed a limit; begin() starts them, cancel() ends them.

    timeout_at and last_output are in seconds of the clock; set before begin() they are those of an earlier worker. A
    lease has no such beginning: no client could renew it while no worker was there, so each worker starts it again.
    """

    def __init__(self, timers: Timers, limits: TimeLimits) -> None:
        self._timers = timers
        self._limits = limits
        self.timeout_at: float | None = None
        self.last_output = 0.0
        self._lease_ends = 0.0
        self._overdue: Callable[[EndReason], None] = _nothing
        self._exit_untold: Callable[[], bool] = _told

    def begin(self, overdue: Callable[[EndReason], None], exit_untold: Callable[[], bool]) -> None:
        """
        The process runs: its limits count from now, or from where an earlier worker began to count. overdue(reason) is
        called when one has expired, unless exit_untold(): the process has exited by itself, which is not told yet,
        because this worker or the shim was suspended.
        """
        self._overdue, self._exit_untold = overdue, exit_untold
        now = self._timers.seconds()
        self.last_output = self.last_output or now
        if self._limits.timeout_seconds is not None:
            left = self._limits.timeout_seconds if self.timeout_at is None else max(0.0, self.timeout_at - now)
            self._timers.start("timeout", left, lambda: self._expired("timeout", EndReason.TIMEOUT))
        if self._limits.quiet_seconds is not None:
            left = max(0.0, self.last_output + self._limits.quiet_seconds - now)
            self._timers.start("quiet", left, self._check_quiet)
        if self._limits.lease_seconds is not None:
            self.renew_lease()
            self._timers.start("lease", self._limits.lease_seconds, self._check_lease)

    def printed(self) -> None:
        """The process has printed: quietTimeout counts from now."""
        self.last_output = self._timers.seconds()

    def renew_lease(self) -> None:
        """The lease counts from now. Costs no timer: the one that runs looks again when it is due."""
        if self._limits.lease_seconds is not None:
            self._lease_ends = self._timers.seconds() + self._limits.lease_seconds

    def cancel(self) -> None:
        """The process is being ended, or is over: no limit counts any more, and nothing is called any more."""
        self._timers.cancel("timeout", "quiet", "lease")
        self._overdue, self._exit_untold = _nothing, _told

    def _check_quiet(self, last_time: bool = False) -> None:
        """
        After the worker itself was suspended, timers are due before the pipes are read, so the reactor gets a moment to
        read them.
        """
        assert self._limits.quiet_seconds is not None
        left = self.last_output + self._limits.quiet_seconds - self._timers.seconds()
        if left > 0:
            self._timers.start("quiet", left, self._check_quiet)
        elif last_time:
            self._expired("quiet", EndReason.QUIET)
        else:
            self._timers.start("quiet", _READING_SECONDS, lambda: self._check_quiet(last_time=True))

    def _check_lease(self) -> None:
        """While the worker itself was suspended no client could renew a lease, so it starts again after that, too."""
        assert self._limits.lease_seconds is not None
        left = self._lease_ends - self._timers.seconds()
        if left < -_STOOD_STILL_SECONDS:
            self.renew_lease()
            left = self._limits.lease_seconds
        if left > 0:
            self._timers.start("lease", left, self._check_lease)
        else:
            self._expired("lease", EndReason.LEASE)

    def _expired(self, timer: str, reason: EndReason) -> None:
        if self._exit_untold():
            self._timers.start(timer, _EXIT_SECONDS, lambda: self._expired(timer, reason))
        else:
            self._overdue(reason)


def _nothing(reason: EndReason) -> None:
    """No limit counts."""


def _told() -> bool:
    """No limit counts."""
    return False
