"""
What a run (run.py) holds and does: its child, whoever clears up after it, every timer there is about a child.

Reactor thread only.
"""

from __future__ import annotations

import signal as signals
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from twisted.internet.error import ProcessExitedAlready

from txworker.base.reactor import Clock, Timer
from txworker.jobs import EndReason

ASKED = "asked"
"""The reason that the shim is told for what the worker has begun to end; the store knows more."""


class Group(Protocol):
    """What a run asks of its child: ChildTransport."""

    def signalGroup(self, number: int) -> None: ...

    def loseConnection(self) -> None: ...


class LeftoverCleanup(Protocol):
    """What a run asks of the Cleanup that ends the leftovers."""

    def start(self, grace_seconds: float) -> None: ...

    def shorten_grace(self, grace_seconds: float) -> None: ...

    def kill_once(self) -> None: ...


@dataclass
class RunParts:
    """
    What a run holds.

    overdue(reason) is told when the run ends the child for a time limit, over() once when all is over;
    drain_seconds is how long leftovers of a child that exited by itself may take to end, and then how long output is
    waited for when another process still holds the pipe. hindered() hears that the child, which is to end, may not be
    signalled or has not ended though it was killed. Without `cleanup` leftovers are kept. enforce(reason, kill_at)
    tells the shim when KILL is due. timeout_at and last_output are of the clock; set before the start they are those of
    an earlier worker.
    """

    clock: Clock
    overdue: Callable[[EndReason], None]
    over: Callable[[], None]
    grace_seconds: float
    drain_seconds: float
    timeout_seconds: float | None = None
    quiet_seconds: float | None = None
    cleanup: LeftoverCleanup | None = None
    enforce: Callable[[str, float], None] = lambda reason, kill_at: None
    hindered: Callable[[], None] = lambda: None
    timeout_at: float | None = None
    child: Group | None = None
    last_output: float = 0.0
    kill_at: float = 0.0
    kills: int = 0
    drained_at: float = 0.0
    calls: dict[str, Timer] = field(default_factory=dict)

    def call_later(self, name: str, seconds: float, call: Callable[[], None]) -> None:
        """One timer of each name; a new one replaces the old."""
        self.cancel(name)

        def due() -> None:
            del self.calls[name]
            call()

        self.calls[name] = self.clock.callLater(seconds, due)

    def cancel(self, *names: str) -> None:
        """Forget these timers; all when none is named."""
        for name in names or list(self.calls):
            call = self.calls.pop(name, None)
            if call is not None:
                call.cancel()

    def signal(self, number: int) -> None:
        """Signal the child's process group, if there still is one and it is ours to signal."""
        assert self.child is not None
        try:
            self.child.signalGroup(number)
        except ProcessExitedAlready:
            pass  # what should end has ended
        except PermissionError:
            self.hindered()

    def term(self) -> None:
        """Ask the group to end; CONT, because one that is stopped hears nothing."""
        self.signal(signals.SIGTERM)
        self.signal(signals.SIGCONT)

    def patience(self, seconds: float, over: Callable[[], None]) -> None:
        """Let the grace period end after so long, or when it would have ended anyway if that is earlier."""
        at = self.clock.seconds() + seconds
        if "kill" not in self.calls or at < self.kill_at:
            self.kill_at = at
            self.enforce(ASKED, at)
            self.call_later("kill", seconds, over)

    def until_drained(self, seconds: float, over: Callable[[], None]) -> None:
        """Wait so long for the last output, or until the wait would have ended anyway if that is earlier."""
        at = self.clock.seconds() + seconds
        if "drain" not in self.calls or at < self.drained_at:
            self.drained_at = at
            self.call_later("drain", seconds, over)
