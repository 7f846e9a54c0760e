"""
The state machine of one running process: TERM, grace period, KILL; the leftovers and the last output.

time_limits.py tells it when a time limit has expired. Reactor thread.
"""

from __future__ import annotations

import signal as signals
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

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

    def exit_untold(self) -> bool:
        """Whether the process has exited, and exited() is still to be called."""

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
        self.limit_timers.cancel()
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


class State(Enum):
    """What is known of the process; after KILLING it has exited."""

    RUNNING = "running"
    STOPPING = "stopping"
    KILLING = "killing"
    EXITED = "exited, leftovers may live, output may be open"
    DRAINED = "exited, leftovers may live"
    CLEANED_UP = "exited, output may be open"
    OVER = "over"


class StateMachine:
    """
    Make it before the process is launched. Each input is harmless in each state; _TRANSITIONS has what it does.

    An action is called in the new state, and may be the cause of the next input.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._transitions = _TRANSITIONS[State.RUNNING]

    def begin(self, transport: ProcessTransport) -> None:
        """The process runs."""
        self._context.transport = transport
        self._context.limit_timers.begin(self._timed_out, transport.exit_untold)

    def stop(self, grace_seconds: float) -> None:
        """Send TERM now, and KILL when the grace period is over. Of several grace periods the earliest end counts."""
        self._input("stop", grace_seconds)

    def resume_stop(self, kill_in_seconds: float) -> None:
        """An earlier worker, or the shim, has sent TERM: send KILL after that many seconds."""
        self._input("resume_stop", kill_in_seconds)

    def exited(self) -> None:
        """The process exited. Its leftovers may live, and its output may be held open."""
        self._input("exited")

    def output_closed(self) -> None:
        """The output is closed; never before exited()."""
        self._input("output_closed")

    def cleaned_up(self) -> None:
        """No process of the job is left; never before exited()."""
        self._input("cleaned_up")

    def _grace_over(self) -> None:
        self._input("grace_over")

    def _drain_over(self) -> None:
        self._input("drain_over")

    def _timed_out(self, reason: EndReason) -> None:
        self._input("timed_out", reason)

    def _kill_again(self) -> None:
        self._input("kill_again")

    def _input(self, name: str, *values: Any) -> None:
        transition = self._transitions.get(name)
        if transition is not None:
            state, action = transition
            self._transitions = _TRANSITIONS[state]
            action(self, *values)

    def _stop(self, grace_seconds: float) -> None:
        self._context.limit_timers.cancel()
        if grace_seconds > 0:
            self._context.term()
        self._shorten_grace(grace_seconds)

    def _resume_stop(self, kill_in_seconds: float) -> None:
        self._context.limit_timers.cancel()
        self._shorten_grace(max(0.0, kill_in_seconds))

    def _end_overdue(self, reason: EndReason) -> None:
        context = self._context
        context.limit_timers.cancel()
        context.reason = reason
        context.overdue(reason)
        context.term()
        self._shorten_grace(context.limits.grace_seconds)

    def _shorten_grace(self, grace_seconds: float) -> None:
        self._context.start_grace(grace_seconds, self._grace_over)

    def _kill(self) -> None:
        self._context.signal(signals.SIGKILL)
        self._await_kill()

    def _kill_all(self) -> None:
        """
        The process is traced, most likely by one of its leftovers, so that its exit is not seen (ptrace(2)); or it must
        not be signalled, which an exec may change; or the kernel cannot end it yet.
        """
        context = self._context
        context.kills += 1
        context.signal(signals.SIGKILL)
        if context.kills == _REPORTED_KILLS:
            context.blocked()
        if context.cleanup is not None:
            context.cleanup.kill_once()
        self._await_kill()

    def _await_kill(self) -> None:
        self._context.timers.start("kill", _KILL_AGAIN_SECONDS, self._kill_again)

    def _clean_up(self) -> None:
        self._start_cleanup(self._context.limits.drain_seconds)

    def _clean_up_after_term(self) -> None:
        """The leftovers of a stopped job have the rest of its grace period."""
        self._start_cleanup(self._context.timers.left("grace"))

    def _clean_up_after_kill(self) -> None:
        self._start_cleanup(0.0)

    def _start_cleanup(self, grace_seconds: float) -> None:
        self._context.timers.cancel()
        if self._context.cleanup is None:
            self.cleaned_up()
        else:
            self._context.cleanup.start(grace_seconds)

    def _shorten_cleanup(self, grace_seconds: float) -> None:
        if self._context.cleanup is not None:
            self._context.cleanup.shorten_grace(grace_seconds)

    def _await_cleanup(self) -> None:
        """Cleanup calls cleaned_up()."""

    def _await_output(self) -> None:
        self._context.timers.start("drain", self._context.limits.drain_seconds, self._drain_over)

    def _shorten_drain(self, grace_seconds: float) -> None:
        self._context.timers.shorten("drain", grace_seconds, self._drain_over)

    def _close_output(self) -> None:
        assert self._context.transport is not None
        self._context.transport.loseConnection()

    def _finish(self) -> None:
        self._context.timers.cancel()
        self._context.done()


_M = StateMachine
_TRANSITIONS: dict[State, dict[str, tuple[State, Callable[..., None]]]] = {
    State.RUNNING: {
        "stop": (State.STOPPING, _M._stop),
        "resume_stop": (State.STOPPING, _M._resume_stop),
        "timed_out": (State.STOPPING, _M._end_overdue),
        "exited": (State.EXITED, _M._clean_up),
    },
    State.STOPPING: {
        "stop": (State.STOPPING, _M._shorten_grace),
        "grace_over": (State.KILLING, _M._kill),
        "exited": (State.EXITED, _M._clean_up_after_term),
    },
    State.KILLING: {
        "kill_again": (State.KILLING, _M._kill_all),
        "exited": (State.EXITED, _M._clean_up_after_kill),
    },
    State.EXITED: {
        "stop": (State.EXITED, _M._shorten_cleanup),
        "output_closed": (State.DRAINED, _M._await_cleanup),
        "cleaned_up": (State.CLEANED_UP, _M._await_output),
    },
    State.DRAINED: {
        "stop": (State.DRAINED, _M._shorten_cleanup),
        "cleaned_up": (State.OVER, _M._finish),
    },
    State.CLEANED_UP: {
        "stop": (State.CLEANED_UP, _M._shorten_drain),
        "drain_over": (State.CLEANED_UP, _M._close_output),
        "output_closed": (State.OVER, _M._finish),
    },
    State.OVER: {},
}
"""The inputs that do something in each state, with the next state and the action; a state ignores all others."""
