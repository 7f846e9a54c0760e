"""
One running child from its start to its end: the ladder TERM, patience, KILL; the time limits; the last of its output.

Owns every timer there is about a child. Reactor thread only.
"""

from __future__ import annotations

import contextlib
import signal as signals
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from automat import TypeMachineBuilder
from twisted.internet.error import ProcessExitedAlready

from txworker.jobs import EndReason
from txworker.waiting import Clock, Timer


class Group(Protocol):
    """What a run asks of its child: ChildTransport."""

    def signalGroup(self, number: int) -> None: ...

    def loseConnection(self) -> None: ...


class Run(Protocol):
    """The inputs of the machine. Every one is harmless in every state."""

    def stop(self, grace_seconds: float) -> None:
        """TERM to the process group now, KILL when the grace period is over; asked again, the earlier end counts."""

    def exited(self) -> None:
        """The child exited; what it left behind may still hold its output open."""

    def ended(self) -> None:
        """The child exited and its output is closed."""

    def _patience_over(self) -> None:
        """The grace period is over."""

    def _drain_over(self) -> None:
        """The child exited long enough ago."""

    def _timed_out(self, reason: EndReason) -> None:
        """A time limit of the job's is over."""


@dataclass
class RunParts:
    """
    What a run holds.

    overdue(reason) is told when the run ends the child for a time limit; drain_seconds is how long output is
    waited for when the child has exited but something it left behind holds the pipe.
    """

    clock: Clock
    overdue: Callable[[EndReason], None]
    grace_seconds: float
    drain_seconds: float
    timeout_seconds: float | None = None
    quiet_seconds: float | None = None
    child: Group | None = None
    last_output: float = 0.0
    kill_at: float = 0.0
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
        """Signal the child's process group, if there still is one."""
        assert self.child is not None
        with contextlib.suppress(ProcessExitedAlready):  # what should end has ended
            self.child.signalGroup(number)

    def patience(self, seconds: float, over: Callable[[], None]) -> None:
        """Let the grace period end after so long, or when it would have ended anyway if that is earlier."""
        at = self.clock.seconds() + seconds
        if "kill" not in self.calls or at < self.kill_at:
            self.kill_at = at
            self.call_later("kill", seconds, over)


_builder = TypeMachineBuilder(Run, RunParts)
_running = _builder.state("running")
_stopping = _builder.state("stopping")
_killing = _builder.state("killing")
_draining = _builder.state("draining")
_over = _builder.state("over")

_running.upon(Run._patience_over).loop().returns(None)
_running.upon(Run._drain_over).loop().returns(None)
_stopping.upon(Run._drain_over).loop().returns(None)
_stopping.upon(Run._timed_out).loop().returns(None)
_killing.upon(Run.stop).loop().returns(None)
_killing.upon(Run._patience_over).loop().returns(None)
_killing.upon(Run._drain_over).loop().returns(None)
_killing.upon(Run._timed_out).loop().returns(None)
_draining.upon(Run.exited).loop().returns(None)
_draining.upon(Run._patience_over).loop().returns(None)
_draining.upon(Run._timed_out).loop().returns(None)
_over.upon(Run.stop).loop().returns(None)
_over.upon(Run.exited).loop().returns(None)
_over.upon(Run.ended).loop().returns(None)
_over.upon(Run._patience_over).loop().returns(None)
_over.upon(Run._drain_over).loop().returns(None)
_over.upon(Run._timed_out).loop().returns(None)


@_running.upon(Run.stop).to(_stopping)
def _ask(run: Run, parts: RunParts, grace_seconds: float) -> None:
    parts.cancel("timeout", "quiet")
    if grace_seconds > 0:
        parts.signal(signals.SIGTERM)
    parts.patience(grace_seconds, run._patience_over)


@_stopping.upon(Run.stop).loop()
def _ask_again(run: Run, parts: RunParts, grace_seconds: float) -> None:
    parts.patience(grace_seconds, run._patience_over)


@_running.upon(Run._timed_out).to(_stopping)
def _end_overdue(run: Run, parts: RunParts, reason: EndReason) -> None:
    parts.cancel("timeout", "quiet")
    parts.overdue(reason)
    parts.signal(signals.SIGTERM)
    parts.patience(parts.grace_seconds, run._patience_over)


@_stopping.upon(Run._patience_over).to(_killing)
def _kill(run: Run, parts: RunParts) -> None:
    parts.signal(signals.SIGKILL)


def _drain(run: Run, parts: RunParts) -> None:
    """Ask what the child left in its session to end, in a bounded time: the rest of a grace period, if longer."""
    left = parts.kill_at - parts.clock.seconds() if "kill" in parts.calls else 0.0
    parts.cancel()
    parts.signal(signals.SIGTERM)
    parts.call_later("drain", max(parts.drain_seconds, left), run._drain_over)


_running.upon(Run.exited).to(_draining)(_drain)
_stopping.upon(Run.exited).to(_draining)(_drain)
_killing.upon(Run.exited).to(_draining)(_drain)


@_draining.upon(Run.stop).loop()
def _hurry(run: Run, parts: RunParts, grace_seconds: float) -> None:
    parts.call_later("drain", min(parts.drain_seconds, grace_seconds), run._drain_over)


@_draining.upon(Run._drain_over).loop()
def _give_up(run: Run, parts: RunParts) -> None:
    parts.signal(signals.SIGKILL)
    assert parts.child is not None
    parts.child.loseConnection()


def _finish(run: Run, parts: RunParts) -> None:
    parts.cancel()


_running.upon(Run.ended).to(_over)(_finish)
_stopping.upon(Run.ended).to(_over)(_finish)
_killing.upon(Run.ended).to(_over)(_finish)
_draining.upon(Run.ended).to(_over)(_finish)

_machine = _builder.build()


def new_run(parts: RunParts) -> Run:
    """A run whose child is about to be started; `begin` it when it is there."""
    return _machine(parts)


def begin(run: Run, parts: RunParts, child: Group) -> None:
    """The child is there: its time limits count from now."""
    parts.child = child
    parts.last_output = parts.clock.seconds()
    if parts.timeout_seconds is not None:
        parts.call_later("timeout", parts.timeout_seconds, lambda: run._timed_out(EndReason.TIMEOUT))
    if parts.quiet_seconds is not None:
        parts.call_later("quiet", parts.quiet_seconds, lambda: _look_if_quiet(run, parts))


def _look_if_quiet(run: Run, parts: RunParts) -> None:
    assert parts.quiet_seconds is not None
    left = parts.last_output + parts.quiet_seconds - parts.clock.seconds()
    if left <= 0:
        run._timed_out(EndReason.QUIET)
    else:
        parts.call_later("quiet", left, lambda: _look_if_quiet(run, parts))
