"""Keeps the worker registered: registers, registers again when the scheduler was lost, and deregisters at the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.python.failure import Failure

from txworker.base.logs import Logger
from txworker.base.ratelimit import Allows
from txworker.base.reactor import Clock, Timer
from txworker.base.waiting import Waiters
from txworker.rpc.scheduler.loss import LossTimer


class SchedulerLink(Protocol):
    """The part of Link that Registration uses."""

    @property
    def target(self) -> str:
        """The scheduler's address."""

    def open(self, lost: Callable[[], None]) -> None:
        """Begin to connect; lost() is called when an established connection is lost."""

    def register(self, address: str, timeout_seconds: float) -> Deferred[str]:
        """Register the address; fires with the worker id. Cancelling cancels the call."""

    def deregister(self, worker_id: str, timeout_seconds: float) -> Deferred[None]:
        """Deregister the worker id. Cancelling cancels the call."""

    def probe(self, timeout_seconds: float) -> Deferred[bool]:
        """Whether the scheduler answers. Cancelling cancels the call."""

    def close(self) -> None:
        """Close the connection; calls under way fail."""


@dataclass(frozen=True)
class Intervals:
    """Pauses and time limits in seconds. The pause before a retry doubles from the first to the longest."""

    first_pause: float = 0.5
    longest_pause: float = 30.0
    register_limit: float = 5.0
    probe_pause: float = 30.0
    probe_limit: float = 5.0
    deregister_limit: float = 2.0


class Registration(Service):
    """
    Keeps the worker registered from start to stop while the scheduler is reachable. Reactor thread.

    address() returns the address to register; random() returns 0 ≤ x < 1 for the jitter. Each change of state is logged
    once, not each attempt, and only if allows() permits it, because a scheduler may restart again and again. The timer
    `loss` runs while there is no registration. answered() is called when the scheduler has registered the worker or
    answered a probe.
    """

    _log = Logger()

    def __init__(
        self,
        clock: Clock,
        link: SchedulerLink,
        address: Callable[[], str],
        random: Callable[[], float],
        intervals: Intervals = Intervals(),
        allows: Allows = lambda kind: True,
        loss: LossTimer | None = None,
        answered: Callable[[], None] = lambda: None,
    ) -> None:
        self._clock = clock
        self._link = link
        self._address = address
        self._random = random
        self._intervals = intervals
        self._allows = allows
        self._loss = loss
        self._answered = answered
        self._worker_id = ""
        self._registered = False
        self._away_logged = False
        self._pause = intervals.first_pause
        self._timer: Timer | None = None
        self._call: Deferred[Any] | None = None
        self._old_deregistered: Deferred[None] = succeed(None)
        self._is_registering = False  # the call is a registration, not a probe
        self._call_over = Waiters()
        self._left = True
        self._leaving = Waiters()

    @property
    def registered(self) -> bool:
        """Whether the worker is registered, as far as it knows. Any thread."""
        return self._registered and bool(self.running)

    def startService(self) -> None:
        """Begin to register; returns at once, whether or not the scheduler is reachable."""
        super().startService()
        self._left = False
        self._without_registration()
        self._link.open(self._connection_lost)
        self._register()

    def stopService(self) -> Deferred[None]:
        """Deregister; fires when that is done, within intervals.deregister_limit. May be called again."""
        if self.running:
            super().stopService()
            self._begin_to_leave()
        return self._leaving.until(lambda: self._left)

    def _begin_to_leave(self) -> None:
        self._cancel_timer()
        self._cancel_loss()
        left = Deferred.fromCoroutine(self._leave())
        left.addTimeout(self._intervals.deregister_limit, self._clock)  # type: ignore[arg-type]  # it uses callLater only
        left.addErrback(self._not_deregistered)
        left.addBoth(self._close)

    async def _leave(self) -> None:
        if self._call is not None and self._is_registering:  # if it succeeds the worker must deregister
            await self._call_over.until(lambda: self._call is None)
        if self._worker_id:
            await self._link.deregister(self._worker_id, self._intervals.deregister_limit)
            self._log.info("Deregistered worker {worker_id}.", worker_id=self._worker_id)
        await self._old_deregistered

    def _not_deregistered(self, failure: Failure) -> None:
        self._log.warn("The worker could not be deregistered from the scheduler: {why}.", why=failure.value)

    def _close(self, _: object) -> None:
        if self._call is not None:
            self._call.cancel()
        self._link.close()
        self._left = True
        self._leaving.wake()

    def _register(self) -> None:
        self._timer = None
        self._is_registering = True
        call = self._link.register(self._address(), self._intervals.register_limit)
        self._track(call, self._intervals.register_limit, self._register_succeeded, self._register_failed)

    def _register_succeeded(self, worker_id: str) -> None:
        old, self._worker_id, self._registered = self._worker_id, worker_id, True
        if old and old != worker_id:
            self._old_deregistered = self._link.deregister(old, self._intervals.deregister_limit)
            self._old_deregistered.addErrback(self._old_id_not_deregistered, old)
        if not self.running:
            return
        self._cancel_loss()
        self._answered()
        self._away_logged = False
        self._pause = self._intervals.first_pause
        if self._allows("registered with the scheduler"):
            self._log.info(
                "Registered with the scheduler {scheduler} as worker {worker_id}, {address}.",
                scheduler=self._link.target,
                worker_id=worker_id,
                address=self._address(),
            )
        self._call_later(self._intervals.probe_pause, self._probe)

    def _old_id_not_deregistered(self, failure: Failure, old: str) -> None:
        if self._allows("an old worker id was not deregistered"):
            self._log.debug(
                "The old worker id {worker_id} could not be deregistered: {why}.", worker_id=old, why=failure.value
            )

    def _register_failed(self, why: object) -> None:
        self._log_away(why)
        pause = self._pause * (0.5 + self._random() / 2)
        self._pause = min(self._pause * 2, self._intervals.longest_pause)
        self._call_later(pause, self._register)

    def _probe(self) -> None:
        self._timer = None
        self._is_registering = False
        call = self._link.probe(self._intervals.probe_limit)
        self._track(call, self._intervals.probe_limit, self._probe_answered, lambda why: self._connection_lost())

    def _probe_answered(self, reachable: bool) -> None:
        if not self.running:
            return
        if reachable:
            self._answered()
            self._call_later(self._intervals.probe_pause, self._probe)
        else:
            self._connection_lost()

    def _connection_lost(self) -> None:
        """Register again, because a scheduler that restarts forgets its workers."""
        if not self._registered or not self.running:
            return
        self._registered = False
        self._without_registration()
        self._log_away("the connection was lost")
        self._cancel_timer()
        if self._call is not None:
            self._call.cancel()
        self._register()

    def _without_registration(self) -> None:
        if self._loss is not None:
            self._loss.start()

    def _cancel_loss(self) -> None:
        if self._loss is not None:
            self._loss.cancel()

    def _log_away(self, why: object) -> None:
        if not self._away_logged:
            self._away_logged = True
            if self._allows("the scheduler was away"):
                self._log.warn("Not registered with the scheduler, retrying: {why}.", why=why)

    def _track(
        self,
        call: Deferred[Any],
        limit_seconds: float,
        succeeded: Callable[[Any], None],
        failed: Callable[[object], None],
    ) -> None:
        """Make this the current call, and pass its result on. The call is given up a second after its own limit."""
        self._call = call

        def clear_call(result: Any) -> Any:
            self._call = None
            return result

        def fail_unless_cancelled(failure: Failure) -> None:
            if self.running and not failure.check(CancelledError):
                failed(failure.value)

        call.addTimeout(limit_seconds + 1.0, self._clock)  # type: ignore[arg-type]  # it uses callLater only
        call.addBoth(clear_call).addCallbacks(succeeded, fail_unless_cancelled).addBoth(
            lambda _: self._call_over.wake()
        )

    def _call_later(self, seconds: float, call: Callable[[], None]) -> None:
        self._cancel_timer()
        self._timer = self._clock.callLater(seconds, call)

    def _cancel_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
