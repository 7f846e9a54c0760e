"""
The signals that the worker handles, as nginx has them: HUP reloads, USR1 opens the log again, USR2 hands over, QUIT
drains, TERM and INT stop.
"""

from __future__ import annotations

import os
import signal as signals
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any

from twisted.internet.defer import maybeDeferred
from twisted.internet.error import ReactorNotRunning

from txworker.base.logs import Logger

_SIGNALS = (
    signals.SIGTERM,
    signals.SIGINT,
    signals.SIGHUP,
    signals.SIGQUIT,
    signals.SIGUSR1,
    signals.SIGUSR2,
)

_log = Logger()


@dataclass(frozen=True)
class SignalActions:
    """
    What signals do besides stopping. Each is called in the reactor thread and may return a Deferred; a failure is in
    the log already.
    """

    reload: Callable[[], object]
    reopen_log: Callable[[], object]
    drain: Callable[[], object]
    hand_over: Callable[[], object]


class Terminal:
    """
    The terminal that the worker was started in, if there is one. It does not matter to a worker that was started to
    ignore SIGHUP (nohup). Make it before the handlers are installed.

    A hang-up cannot be told from a request to reload by the signal: the shell of a terminal that has gone sends SIGHUP
    to its jobs just as an operator does (SI_USER). But then the terminal cannot be opened any more.
    """

    def __init__(self, path: str = "/dev/tty") -> None:
        self._path = path
        self._matters = signals.getsignal(signals.SIGHUP) is not signals.SIG_IGN and self._is_there()

    @property
    def hung_up(self) -> bool:
        """Whether there was a terminal and it is gone."""
        return self._matters and not self._is_there()

    def _is_there(self) -> bool:
        try:
            os.close(os.open(self._path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC))
        except OSError:
            return False
        return True


def hold_signals() -> None:
    """Block the handled signals until handle_signals() has installed the handlers: none interrupts the start."""
    signals.pthread_sigmask(signals.SIG_BLOCK, _SIGNALS)


def handle_signals(reactor: Any, actions: SignalActions, terminal: Terminal, log: Logger = _log) -> None:
    """
    Install the handlers once the reactor runs. A second stop signal changes nothing.

    When the reactor has stopped they are ignored: Python, which ends next, gives a handled signal its default action
    back, and the next one would end the process by the signal instead of with exit status 0.

    They replace Twisted's handlers, which the reactor installs at its start: with those twistd would end by the signal
    instead of with exit status 0. No signal reaches Twisted's, because signals are held until these are installed.
    """

    def stop(name: str) -> None:
        try:
            reactor.stop()
            log.info("{signal}: stopping.", signal=name)
        except ReactorNotRunning:
            log.info("{signal}: already stopping.", signal=name)

    def reload_or_stop() -> None:
        if terminal.hung_up:
            stop("SIGHUP, the terminal is gone")
        else:
            _attempt(actions.reload)

    def handler(call: Callable[..., object], *args: object) -> Callable[[int, FrameType | None], None]:
        """A handler that only schedules the call, because Python runs it between any two instructions."""
        return lambda number, frame: reactor.callFromThread(call, *args)

    def install_handlers() -> None:
        signals.signal(signals.SIGTERM, handler(stop, "SIGTERM"))
        signals.signal(signals.SIGINT, handler(stop, "SIGINT"))
        signals.signal(signals.SIGHUP, handler(reload_or_stop))
        signals.signal(signals.SIGQUIT, handler(_attempt, actions.drain))
        signals.signal(signals.SIGUSR1, handler(_attempt, actions.reopen_log))
        signals.signal(signals.SIGUSR2, handler(_attempt, actions.hand_over))
        signals.pthread_sigmask(signals.SIG_UNBLOCK, _SIGNALS)

    reactor.callWhenRunning(install_handlers)
    reactor.addSystemEventTrigger("after", "shutdown", _ignore_signals)


def _attempt(action: Callable[[], object]) -> None:
    """Its error is in the log already."""
    maybeDeferred(action).addErrback(lambda failure: None)


def _ignore_signals() -> None:
    for number in _SIGNALS:
        signals.signal(number, signals.SIG_IGN)
