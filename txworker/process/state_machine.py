"""
The state machine of one running process: TERM, grace period, KILL; the leftovers and the last output.

time_limits.py tells it when a time limit has expired. Reactor thread.
"""

from __future__ import annotations

import signal as signals
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from automat import TypeMachineBuilder
from twisted.internet.error import ProcessExitedAlready

from txworker.jobs import EndReason
from txworker.process.time_limits import LimitTimers, TimeLimits
from txworker.process.timers import Timers

_KILL_AGAIN_SECONDS = 1.0
"""After KILL, if the process is not seen to exit, KILL is sent again at this interval, to the rest of the job too."""

_REPORTED_KILLS = 5
"""A process that still runs after this many KILLs is reported."""


class ProcessTransport(Protocol):
    """What the machine needs of the transport (transport.py)."""

    def signalGroup(self, number: int) -> None:
        """Signal the process group. Raises ProcessExitedAlready, or PermissionError."""

    def enforce(self, reason: str, kill_at: float) -> None:
        """Have the shim send KILL at that time of the clock, should this worker be gone by then."""

    def loseConnection(self) -> None:
        """Close our ends of the pipes, also while other processes hold the other ends."""


class LeftoverCleanup(Protocol):
    """What the machine needs of the Cleanup (leftovers/cleanup.py)."""

    def start(self, grace_seconds: float) -> None:
        """End what is left: TERM, and KILL when the grace period is over."""

    def shorten_grace(self, grace_seconds: float) -> None:
        """The grace period ends after that many seconds from now, unless it ends earlier."""

    def kill_once(self) -> None:
        """KILL the job's other processes; its leader does not exit."""


@dataclass
class Context:
    """
    What the machine acts on. cleanup: ends the leftovers; None: they may run on.

    overdue(reason) is called when a time limit expires, blocked() when the process is being ended and must not be
    signalled or does not end, done() once, at the end. has_terminal: then it may be an interactive shell, which ignores
    TERM and ends when its terminal hangs up. reason: why it is being ended, for the shim. limit_timers: of the limits.
    """

    timers: Timers
    limits: TimeLimits
    cleanup: LeftoverCleanup | None
    overdue: Callable[[EndReason], None]
    blocked: Callable[[], None]
    done: Callable[[], None]
    has_terminal: bool = False
    transport: ProcessTransport | None = None
    reason: EndReason = EndReason.REQUESTED
    kills: int = 0
    limit_timers: LimitTimers = field(init=False)

    def __post_init__(self) -> None:
        self.limit_timers = LimitTimers(self.timers, self.limits)

    def forget(self) -> None:
        """The process is over, and nothing more is called: drop what refers to this object."""
        self.overdue, self.blocked, self.done = _overdue_no_more, _nothing, _nothing
        self.transport = self.cleanup = None

    def signal(self, number: int) -> None:
        """Signal the process group, if it still exists."""
        assert self.transport is not None
        try:
            self.transport.signalGroup(number)
        except ProcessExitedAlready:
            pass
        except PermissionError:
            self.blocked()

    def term(self) -> None:
        """TERM, and CONT, because a stopped process does not handle TERM. HUP comes first, or would sometimes."""
        if self.has_terminal:
            self.signal(signals.SIGHUP)
        self.signal(signals.SIGTERM)
        self.signal(signals.SIGCONT)

    def start_grace(self, seconds: float, over: Callable[[], None]) -> None:
        """Call over() after that many seconds, unless an earlier grace period ends before; the shim knows the time."""
        if self.timers.shorten("grace", seconds, over):
            assert self.transport is not None
            self.transport.enforce(self.reason.value, self.timers.seconds() + seconds)


def _overdue_no_more(reason: EndReason) -> None:
    """No limit counts any more."""


def _nothing() -> None:
    """The process is over."""


class StateMachine(Protocol):
    """The inputs of the machine. Each input is harmless in each state."""

    def stop(self, grace_seconds: float) -> None:
        """Send TERM now, and KILL when the grace period is over. Of several grace periods the earliest end counts."""

    def resume_stop(self, kill_in_seconds: float) -> None:
        """An earlier worker, or the shim, has sent TERM: send KILL after that many seconds."""

    def exited(self) -> None:
        """The process exited. Its leftovers may live, and its output may be held open."""

    def output_closed(self) -> None:
        """The output is closed; never before exited()."""

    def cleaned_up(self) -> None:
        """No process of the job is left; never before exited()."""

    def _grace_over(self) -> None:
        """The grace period is over."""

    def _drain_over(self) -> None:
        """The output was awaited long enough."""

    def _timed_out(self, reason: EndReason) -> None:
        """A time limit has expired."""

    def _kill_again(self) -> None:
        """The process was killed, and is not seen to exit."""


_builder = TypeMachineBuilder(StateMachine, Context)
_running = _builder.state("running")
_stopping = _builder.state("stopping")
_killing = _builder.state("killing")
_exited = _builder.state("exited")  # leftovers may live, output may be open
_drained = _builder.state("drained")  # leftovers may live
_cleaned_up = _builder.state("cleaned_up")  # output may be open
_over = _builder.state("over")

_S = StateMachine
_INPUTS = (
    *(_S.stop, _S.resume_stop, _S.exited, _S.output_closed, _S.cleaned_up),
    *(_S._grace_over, _S._drain_over, _S._timed_out, _S._kill_again),
)
_ACTS_ON: dict[Any, tuple[Any, ...]] = {
    _running: (_S.stop, _S.resume_stop, _S._timed_out, _S.exited),
    _stopping: (_S.stop, _S._grace_over, _S.exited),
    _killing: (_S._kill_again, _S.exited),
    _exited: (_S.stop, _S.output_closed, _S.cleaned_up),
    _drained: (_S.stop, _S.cleaned_up),
    _cleaned_up: (_S.stop, _S._drain_over, _S.output_closed),
    _over: (),
}
"""The inputs that do something in each state; it ignores all others."""

for _state, _inputs in _ACTS_ON.items():
    for _input in _INPUTS:
        if _input not in _inputs:
            _state.upon(_input).loop().returns(None)


@_running.upon(_S.stop).to(_stopping)
def _stop(machine: StateMachine, context: Context, grace_seconds: float) -> None:
    context.limit_timers.cancel()
    if grace_seconds > 0:
        context.term()
    context.start_grace(grace_seconds, machine._grace_over)


@_running.upon(_S.resume_stop).to(_stopping)
def _resume_stop(machine: StateMachine, context: Context, kill_in_seconds: float) -> None:
    context.limit_timers.cancel()
    context.start_grace(max(0.0, kill_in_seconds), machine._grace_over)


@_running.upon(_S._timed_out).to(_stopping)
def _end_overdue(machine: StateMachine, context: Context, reason: EndReason) -> None:
    context.limit_timers.cancel()
    context.reason = reason
    context.overdue(reason)
    context.term()
    context.start_grace(context.limits.grace_seconds, machine._grace_over)


@_stopping.upon(_S.stop).loop()
def _shorten_grace(machine: StateMachine, context: Context, grace_seconds: float) -> None:
    context.start_grace(grace_seconds, machine._grace_over)


@_stopping.upon(_S._grace_over).to(_killing)
def _kill(machine: StateMachine, context: Context) -> None:
    context.signal(signals.SIGKILL)
    context.timers.start("kill", _KILL_AGAIN_SECONDS, machine._kill_again)


@_killing.upon(_S._kill_again).loop()
def _kill_all(machine: StateMachine, context: Context) -> None:
    """
    The process is traced, most likely by one of its leftovers, so that its exit is not seen (ptrace(2)); or it must not
    be signalled, which an exec may change; or the kernel cannot end it yet.
    """
    context.kills += 1
    context.signal(signals.SIGKILL)
    if context.kills == _REPORTED_KILLS:
        context.blocked()
    if context.cleanup is not None:
        context.cleanup.kill_once()
    context.timers.start("kill", _KILL_AGAIN_SECONDS, machine._kill_again)


@_running.upon(_S.exited).to(_exited)
def _clean_up(machine: StateMachine, context: Context) -> None:
    _start_cleanup(machine, context, context.limits.drain_seconds)


@_stopping.upon(_S.exited).to(_exited)
def _clean_up_after_term(machine: StateMachine, context: Context) -> None:
    """The leftovers of a stopped job have the rest of its grace period."""
    _start_cleanup(machine, context, context.timers.left("grace"))


@_killing.upon(_S.exited).to(_exited)
def _clean_up_after_kill(machine: StateMachine, context: Context) -> None:
    _start_cleanup(machine, context, 0.0)


def _start_cleanup(machine: StateMachine, context: Context, grace_seconds: float) -> None:
    context.timers.cancel()
    if context.cleanup is None:
        machine.cleaned_up()
    else:
        context.cleanup.start(grace_seconds)


def _shorten_cleanup(machine: StateMachine, context: Context, grace_seconds: float) -> None:
    if context.cleanup is not None:
        context.cleanup.shorten_grace(grace_seconds)


_exited.upon(_S.stop).loop()(_shorten_cleanup)
_drained.upon(_S.stop).loop()(_shorten_cleanup)
_exited.upon(_S.output_closed).to(_drained).returns(None)


@_exited.upon(_S.cleaned_up).to(_cleaned_up)
def _await_output(machine: StateMachine, context: Context) -> None:
    context.timers.start("drain", context.limits.drain_seconds, machine._drain_over)


@_cleaned_up.upon(_S.stop).loop()
def _shorten_drain(machine: StateMachine, context: Context, grace_seconds: float) -> None:
    context.timers.shorten("drain", grace_seconds, machine._drain_over)


@_cleaned_up.upon(_S._drain_over).loop()
def _close_output(machine: StateMachine, context: Context) -> None:
    assert context.transport is not None
    context.transport.loseConnection()


def _finish(machine: StateMachine, context: Context) -> None:
    context.timers.cancel()
    context.done()


_drained.upon(_S.cleaned_up).to(_over)(_finish)
_cleaned_up.upon(_S.output_closed).to(_over)(_finish)

new_machine = _builder.build()
"""Makes a StateMachine from its Context, before the process is launched; begin() it when the process runs."""


def begin(machine: StateMachine, context: Context, transport: ProcessTransport) -> None:
    """The process runs."""
    context.transport = transport
    context.limit_timers.begin(machine._timed_out)
