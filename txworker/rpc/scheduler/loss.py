"""Acts when the worker has had no scheduler for too long."""

from __future__ import annotations

from collections.abc import Callable

from txworker.base.logs import Logger
from txworker.base.reactor import Clock, Timer


class LossTimer:
    """
    Calls act() once when there has been no registration for `after_seconds`. Reactor thread.

    what: what act() does, for the log.
    """

    _log = Logger()

    def __init__(self, clock: Clock, after_seconds: float, what: str, act: Callable[[], object]) -> None:
        self._clock = clock
        self._after_seconds = after_seconds
        self._what = what
        self._act = act
        self._away = False
        self._timer: Timer | None = None

    def start(self) -> None:
        """There is no registration from now on. May be called again: the time counts from the first call."""
        if not self._away:
            self._away = True
            self._timer = self._clock.callLater(self._after_seconds, self._lost)

    def cancel(self) -> None:
        """The worker is registered, or is not to be registered any more. May be called again."""
        self._away = False
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _lost(self) -> None:
        self._timer = None
        self._log.error(
            "The worker has had no scheduler for {seconds:g} s: {what}.", seconds=self._after_seconds, what=self._what
        )
        self._act()
