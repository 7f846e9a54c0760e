"""
One running child from its start to its end: the ladder TERM, patience, KILL; the time limits; the last of its output.

The timers are in parts.py. Reactor thread only.
"""

from __future__ import annotations

import signal as signals
from typing import Protocol

from automat import TypeMachineBuilder

from txworker.jobs import EndReason
from txworker.process.timers import Group, RunParts

_KILLED_SECONDS = 1.0
"""So long after KILL who is left of a job is looked for, though it has not been seen to exit; then again and again."""

_HINDERED_KILLS = 5
"""After so many, a second apart, a child that has not ended is told of."""

_READING_SECONDS = 0.1
"""What is in the pipes is read within that time."""


class Run(Protocol):
    """The inputs of the machine. Every one is harmless in every state."""

    def stop(self, grace_seconds: float) -> None:
        """TERM to the process group now, KILL when the grace period is over; asked again, the earlier end counts."""

    def resume_stop(self, kill_in_seconds: float) -> None:
        """An earlier worker, or the shim, has sent TERM: KILL after so long."""

    def exited(self) -> None:
        """The child exited; what it left behind may live, and may hold its output open."""

    def ended(self) -> None:
        """The child's output is closed; never before exited."""

    def cleared(self) -> None:
        """Nobody is left of the job; never before exited."""

    def _patience_over(self) -> None:
        """The grace period is over."""

    def _drain_over(self) -> None:
        """Whoever still holds the output has had long enough."""

    def _timed_out(self, reason: EndReason) -> None:
        """A time limit of the job's is over."""

    def _still_there(self) -> None:
        """It was killed, and has not been seen to exit."""


_builder = TypeMachineBuilder(Run, RunParts)
_running = _builder.state("running")
_stopping = _builder.state("stopping")
_killing = _builder.state("killing")
_exited = _builder.state("exited")  # leftovers may live, output may be open
_emptied = _builder.state("emptied")  # leftovers may live
_cleared = _builder.state("cleared")  # output may be open
_over = _builder.state("over")

for _state, *_harmless in (
    (_running, Run._patience_over, Run._drain_over, Run._still_there, Run.ended, Run.cleared),
    (_stopping, Run._drain_over, Run._timed_out, Run._still_there, Run.ended, Run.cleared),
    (_killing, Run.stop, Run._patience_over, Run._drain_over, Run._timed_out, Run.ended, Run.cleared),
    (_exited, Run.exited, Run._patience_over, Run._drain_over, Run._timed_out, Run._still_there),
    (_emptied, Run.exited, Run.ended, Run._patience_over, Run._drain_over, Run._timed_out, Run._still_there),
    (_cleared, Run.exited, Run.cleared, Run._patience_over, Run._timed_out, Run._still_there),
    (_over, Run.stop, Run.exited, Run.ended, Run.cleared),
    (_over, Run._patience_over, Run._drain_over, Run._timed_out, Run._still_there),
):
    for _input in _harmless:
        _state.upon(_input).loop().returns(None)  # type: ignore[arg-type]  # the inputs differ in their parameters

for _state in (_stopping, _killing, _exited, _emptied, _cleared, _over):
    _state.upon(Run.resume_stop).loop().returns(None)


@_running.upon(Run.stop).to(_stopping)
def _ask(run: Run, parts: RunParts, grace_seconds: float) -> None:
    parts.cancel("timeout", "quiet")
    if grace_seconds > 0:
        parts.term()
    parts.patience(grace_seconds, run._patience_over)


@_running.upon(Run.resume_stop).to(_stopping)
def _resume(run: Run, parts: RunParts, kill_in_seconds: float) -> None:
    parts.cancel("timeout", "quiet")
    parts.patience(max(0.0, kill_in_seconds), run._patience_over)


@_stopping.upon(Run.stop).loop()
def _ask_again(run: Run, parts: RunParts, grace_seconds: float) -> None:
    parts.patience(grace_seconds, run._patience_over)


@_running.upon(Run._timed_out).to(_stopping)
def _end_overdue(run: Run, parts: RunParts, reason: EndReason) -> None:
    parts.cancel("timeout", "quiet")
    parts.overdue(reason)
    parts.term()
    parts.patience(parts.grace_seconds, run._patience_over)


@_stopping.upon(Run._patience_over).to(_killing)
def _kill(run: Run, parts: RunParts) -> None:
    parts.signal(signals.SIGKILL)
    parts.call_later("killed", _KILLED_SECONDS, run._still_there)


@_killing.upon(Run._still_there).loop()
def _strike_at_leftovers(run: Run, parts: RunParts) -> None:
    """
    Its end is not shown to us while another process traces it (ptrace(2)): one that it has left behind, most likely.
    Or it may not be signalled, which an exec may change; or the kernel cannot end it yet.
    """
    parts.kills += 1
    parts.signal(signals.SIGKILL)
    if parts.kills == _HINDERED_KILLS:
        parts.hindered()
    if parts.cleanup is not None:
        parts.cleanup.kill_once()
    parts.call_later("killed", _KILLED_SECONDS, run._still_there)


@_running.upon(Run.exited).to(_exited)
def _clear_after_own_end(run: Run, parts: RunParts) -> None:
    _clear(run, parts, parts.drain_seconds)


@_stopping.upon(Run.exited).to(_exited)
def _clear_after_term(run: Run, parts: RunParts) -> None:
    """What a stopped job leaves behind has the rest of the job's grace period."""
    _clear(run, parts, parts.kill_at - parts.clock.seconds())


@_killing.upon(Run.exited).to(_exited)
def _clear_after_kill(run: Run, parts: RunParts) -> None:
    _clear(run, parts, 0.0)


def _clear(run: Run, parts: RunParts, grace_seconds: float) -> None:
    parts.cancel()
    if parts.cleanup is None:
        run.cleared()
    else:
        parts.cleanup.start(grace_seconds)


def _hurry(run: Run, parts: RunParts, grace_seconds: float) -> None:
    if parts.cleanup is not None:
        parts.cleanup.shorten_grace(grace_seconds)


_exited.upon(Run.stop).loop()(_hurry)
_emptied.upon(Run.stop).loop()(_hurry)
_exited.upon(Run.ended).to(_emptied).returns(None)


@_exited.upon(Run.cleared).to(_cleared)
def _drain(run: Run, parts: RunParts) -> None:
    parts.until_drained(parts.drain_seconds, run._drain_over)


@_cleared.upon(Run.stop).loop()
def _drain_less(run: Run, parts: RunParts, grace_seconds: float) -> None:
    parts.until_drained(grace_seconds, run._drain_over)


@_cleared.upon(Run._drain_over).loop()
def _give_up(run: Run, parts: RunParts) -> None:
    assert parts.child is not None
    parts.child.loseConnection()


def _finish(run: Run, parts: RunParts) -> None:
    parts.cancel()
    parts.over()


_emptied.upon(Run.cleared).to(_over)(_finish)
_cleared.upon(Run.ended).to(_over)(_finish)

_machine = _builder.build()


def new_run(parts: RunParts) -> Run:
    """A run whose child is about to be started; `begin` it when it is there."""
    return _machine(parts)


def begin(run: Run, parts: RunParts, child: Group) -> None:
    """
    The child is there: its time limits count from now, or from where an earlier worker has begun to count
    (parts.timeout_at, parts.last_output).
    """
    now = parts.clock.seconds()
    parts.child = child
    parts.last_output = parts.last_output or now
    if parts.timeout_seconds is not None:
        left = parts.timeout_seconds if parts.timeout_at is None else max(0.0, parts.timeout_at - now)
        parts.call_later("timeout", left, lambda: run._timed_out(EndReason.TIMEOUT))
    if parts.quiet_seconds is not None:
        left = max(0.0, parts.last_output + parts.quiet_seconds - now)
        parts.call_later("quiet", left, lambda: _look_if_quiet(run, parts))


def _look_if_quiet(run: Run, parts: RunParts, last_time: bool = False) -> None:
    """What has come while we stood still (SIGSTOP, a frozen cgroup) is read first: time is counted before pipes are."""
    assert parts.quiet_seconds is not None
    left = parts.last_output + parts.quiet_seconds - parts.clock.seconds()
    if left > 0:
        parts.call_later("quiet", left, lambda: _look_if_quiet(run, parts))
    elif last_time:
        run._timed_out(EndReason.QUIET)
    else:
        parts.call_later("quiet", _READING_SECONDS, lambda: _look_if_quiet(run, parts, last_time=True))
