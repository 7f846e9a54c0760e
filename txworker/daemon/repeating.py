"""Calls that the worker makes again and again, whatever becomes of one of them."""

from __future__ import annotations

from collections.abc import Callable

from twisted.application.internet import TimerService

from txworker.base.logs import Logger

_log = Logger()


def repeating(seconds: float, call: Callable[[], object]) -> TimerService:
    """
    Makes the call once in that many seconds, also after it has raised, which ends a TimerService: a lack of
    descriptors, for example, passes. Of several failures in a row the first is logged.
    """
    failed = False

    def make() -> None:
        nonlocal failed
        try:
            call()
        except Exception:  # whatever it is, the next call may succeed
            if not failed:
                _log.failure("A call that is made every {seconds:g} s failed; the next one is made", seconds=seconds)
            failed = True
        else:
            failed = False

    return TimerService(seconds, make)
