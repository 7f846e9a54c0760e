"""Being known to the scheduler: register, notice when it has gone and come back, register anew, say goodbye."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred

from txworker.base.logs import Logger
from txworker.base.ratelimit import Allows
from txworker.base.reactor import Clock
from txworker.base.waiting import Waiters


class SchedulerLink(Protocol):
    """What is asked of the connection: Link."""

    def open(self, lost: Callable[[], None]) -> None: ...

    def register(self, address: str, timeout_seconds: float) -> Deferred[str]: ...

    def deregister(self, worker_id: str, timeout_seconds: float) -> Deferred[None]: ...

    def probe(self, timeout_seconds: float) -> Deferred[bool]: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Pace:
    """All in seconds: the pauses between tries grow from first to longest, a probe comes every so often."""

    first_pause: float = 0.5
    longest_pause: float = 30.0
    register_limit: float = 5.0
    probe_pause: float = 30.0
    probe_limit: float = 5.0
    goodbye_limit: float = 2.0


class Registration(Service):
    """
    Registered from start to stop, as far as the scheduler is there. Reactor thread.

    address() is where the scheduler dials back; random() gives 0 ≤ x < 1 for the jitter. One log line for each
    change, none for each try; and allows() is asked before it, for a scheduler may come and go for ever.
    """

    _log = Logger()

    def __init__(
        self,
        clock: Clock,
        link: SchedulerLink,
        address: Callable[[], str],
        random: Callable[[], float],
        pace: Pace = Pace(),
        allows: Allows = lambda kind: True,
    ) -> None:
        self._clock = clock
        self._link = link
        self._address = address
        self._random = random
        self._pace = pace
        self._allows = allows
        self._worker_id = ""
        self._known = False
        self._told_away = False
        self._pause = pace.first_pause
        self._timer: Any = None
        self._call: Deferred[Any] | None = None
        self._registering = False
        self._when_over: Deferred[None] | None = None
        self._left = Waiters()
        self._gone = True

    def startService(self) -> None:
        """Begin to register; returns at once, whether or not the scheduler is there."""
        super().startService()
        self._gone = False
        self._link.open(self._lost)
        self._register()

    def stopService(self) -> Deferred[None]:
        """Say goodbye; fires when that is said, within pace.goodbye_limit seconds in any case. Again is harmless."""
        if self.running:
            super().stopService()
            self._begin_to_leave()
        return self._left.until(lambda: self._gone)

    def _begin_to_leave(self) -> None:
        self._cancel_timer()
        left = Deferred.fromCoroutine(self._leave())
        left.addTimeout(self._pace.goodbye_limit, self._clock)  # type: ignore[arg-type]  # all it calls is callLater
        left.addErrback(
            lambda failure: self._log.warn("The scheduler did not hear our goodbye: {why}.", why=failure.value)
        )
        left.addBoth(self._close)

    async def _leave(self) -> None:
        if self._call is not None and self._registering:
            await self._call_over()  # it may yet succeed, and then the scheduler knows a worker that is gone
        if self._worker_id:
            await self._link.deregister(self._worker_id, self._pace.goodbye_limit)
            self._log.info("Deregistered worker {worker_id}.", worker_id=self._worker_id)

    def _call_over(self) -> Deferred[None]:
        over: Deferred[None] = Deferred()
        self._when_over = over
        return over

    def _close(self, _: object) -> None:
        if self._call is not None:
            self._call.cancel()
        self._link.close()
        self._gone = True
        self._left.wake()

    def _register(self) -> None:
        self._timer = None
        call = self._link.register(self._address(), self._pace.register_limit)
        call.addTimeout(self._pace.register_limit + 1.0, self._clock)  # type: ignore[arg-type]  # as above
        self._registering = True
        self._during(call, self._registered, self._refused)

    def _registered(self, worker_id: str) -> None:
        old, self._worker_id, self._known = self._worker_id, worker_id, True
        if not self.running:
            return
        self._told_away = False
        self._pause = self._pace.first_pause
        if self._allows("registered with the scheduler"):
            self._log.info(
                "Registered with the scheduler as worker {worker_id}, {address}.",
                worker_id=worker_id,
                address=self._address(),
            )
        if old and old != worker_id:
            self._link.deregister(old, self._pace.goodbye_limit).addErrback(self._no_goodbye, old)
        self._later(self._pace.probe_pause, self._probe)

    def _no_goodbye(self, failure: Any, old: str) -> None:
        if self._allows("no goodbye for a worker's old id"):
            self._log.debug("No goodbye for {worker_id}: {why}.", worker_id=old, why=failure.value)

    def _refused(self, why: object) -> None:
        self._away(f"registering failed: {why}")
        pause = self._pause * (0.5 + self._random() / 2)
        self._pause = min(self._pause * 2, self._pace.longest_pause)
        self._later(pause, self._register)

    def _probe(self) -> None:
        self._timer = None
        call = self._link.probe(self._pace.probe_limit)
        call.addTimeout(self._pace.probe_limit + 1.0, self._clock)  # type: ignore[arg-type]  # as above
        self._registering = False
        self._during(call, self._probed, lambda why: self._lost())

    def _probed(self, there: bool) -> None:
        if not self.running:
            return
        if there:
            self._later(self._pace.probe_pause, self._probe)
        else:
            self._lost()

    def _lost(self) -> None:
        """The connection is gone; the scheduler forgets workers when it restarts, so register anew."""
        if not self._known or not self.running:
            return
        self._known = False
        self._away("the connection was lost")
        self._cancel_timer()
        if self._call is not None:
            self._call.cancel()
        self._register()

    def _away(self, why: str) -> None:
        if not self._told_away:
            self._told_away = True
            if self._allows("the scheduler was away"):
                self._log.warn("The scheduler is away, trying again and again: {why}.", why=why)

    def _during(self, call: Deferred[Any], good: Callable[[Any], None], bad: Callable[[object], None]) -> None:
        self._call = call

        def over(result: Any) -> Any:
            self._call = None
            return result

        def failed(failure: Any) -> None:
            if self.running and not failure.check(CancelledError):
                bad(failure.value)

        call.addBoth(over).addCallbacks(good, failed).addBoth(lambda _: self._tell_over())

    def _tell_over(self) -> None:
        when_over, self._when_over = self._when_over, None
        if when_over is not None:
            when_over.callback(None)

    def _later(self, seconds: float, call: Callable[[], None]) -> None:
        self._cancel_timer()
        self._timer = self._clock.callLater(seconds, call)

    def _cancel_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
