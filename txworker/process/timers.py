"""The timers of one process, by name."""

from __future__ import annotations

from collections.abc import Callable

from txworker.base.reactor import Clock, Timer


class Timers:
    """At most one timer of each name. Reactor thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._running: dict[str, tuple[float, Timer]] = {}

    def seconds(self) -> float:
        """The clock's time."""
        return self._clock.seconds()

    def start(self, name: str, seconds: float, call: Callable[[], None]) -> None:
        """Call it after that many seconds; replaces the timer of that name."""
        self.cancel(name)

        def expire() -> None:
            del self._running[name]
            call()

        self._running[name] = self.seconds() + seconds, self._clock.callLater(seconds, expire)

    def shorten(self, name: str, seconds: float, call: Callable[[], None]) -> bool:
        """Like start(), but a timer of that name that is due earlier stays. Returns whether the timer was started."""
        if name in self._running and self.left(name) <= seconds:
            return False
        self.start(name, seconds, call)
        return True

    def left(self, name: str) -> float:
        """Seconds until that timer is due. Raises KeyError: it does not run."""
        return self._running[name][0] - self.seconds()

    def cancel(self, *names: str) -> None:
        """Cancel these timers, or all of them when no name is given; a timer that does not run is ignored."""
        for name in names or list(self._running):
            if name in self._running:
                self._running.pop(name)[1].cancel()
