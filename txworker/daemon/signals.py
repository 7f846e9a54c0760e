"""The signals that the worker handles: TERM, INT and HUP stop it, USR1 drains it, USR2 hands its jobs over."""

from __future__ import annotations

import signal as signals
from collections.abc import Callable
from types import FrameType
from typing import Any

from twisted.internet.defer import maybeDeferred
from twisted.internet.error import ReactorNotRunning

from txworker.base.logs import Logger

_SIGNALS = (signals.SIGTERM, signals.SIGINT, signals.SIGHUP, signals.SIGUSR1, signals.SIGUSR2)

_log = Logger()


def hold_signals() -> None:
    """Block the handled signals until handle_signals() has installed the handlers: none interrupts the start."""
    signals.pthread_sigmask(signals.SIG_BLOCK, _SIGNALS)


def handle_signals(
    reactor: Any, drain: Callable[[], object], hand_over: Callable[[], object], log: Logger = _log
) -> None:
    """
    Install the handlers once the reactor runs. A second stop signal changes nothing.

    They replace Twisted's handlers, which the reactor installs at its start: with those twistd would end by the signal
    instead of with exit status 0. No signal reaches Twisted's, because signals are held until these are installed.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        reactor.callFromThread(stop_reactor, signals.Signals(number).name)

    def stop_reactor(name: str) -> None:
        try:
            reactor.stop()
            log.info("{signal}: stopping.", signal=name)
        except ReactorNotRunning:
            log.info("{signal}: already stopping.", signal=name)

    def try_hand_over() -> None:
        maybeDeferred(hand_over).addErrback(lambda failure: None)  # a refusal is in the log already

    def install() -> None:
        signals.signal(signals.SIGUSR1, lambda number, frame: reactor.callFromThread(drain))
        signals.signal(signals.SIGUSR2, lambda number, frame: reactor.callFromThread(try_hand_over))
        signals.signal(signals.SIGTERM, stop)
        signals.signal(signals.SIGINT, stop)
        signals.signal(signals.SIGHUP, stop)  # sent when the terminal closes; by default it kills the worker at once
        signals.pthread_sigmask(signals.SIG_UNBLOCK, _SIGNALS)

    reactor.callWhenRunning(install)
