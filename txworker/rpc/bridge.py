"""
The bridge between the gRPC threads and the reactor: where a call crosses (crowd.py: where many follow one thing).

Every crossing can end: by its result, by its limit in seconds, by the client leaving, by shutdown. A thread
parked in blockingCallFromThread has no other way out, so each Deferred that a thread waits for is kept here.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import grpc
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.threads import blockingCallFromThread

from txworker.base.logs import Logger
from txworker.base.reactor import ClockWithThreads
from txworker.jobs.errors import CallerGone, DeadlineExceeded, WorkerStopping
from txworker.rpc.crowd import Ask, Crowds, Follower

T = TypeVar("T")

LOOK_SECONDS = 1.0
"""How often limits are looked at: a timer for each call costs more than all the rest of its crossing."""


class Bridge:
    """Makes callers, one for each RPC; closing it frees every thread that waits."""

    def __init__(self, reactor: ClockWithThreads) -> None:
        self.reactor = reactor
        self.ferry = Ferry(reactor)
        self._waiting: dict[Caller, float] = {}
        self._looking = False
        self.crowds = Crowds(reactor)
        self.closed = False

    def caller(self, context: grpc.ServicerContext) -> Caller:
        """The caller behind one RPC. Any thread but the reactor's."""
        return Caller(self, context)

    def close(self) -> None:
        """No further crossing; those who wait are sent home. ClockWithThreads thread."""
        self.closed = True
        for caller in list(self._waiting):
            caller.cancel()
        self.crowds.ring()

    def waits(self, caller: Caller, within_seconds: float | None) -> None:
        """That caller waits for its answer from now on. ClockWithThreads thread."""
        self._waiting[caller] = math.inf if within_seconds is None else self.reactor.seconds() + within_seconds
        if within_seconds is not None and not self._looking:
            self._looking = True
            self.reactor.callLater(LOOK_SECONDS, self._look)

    def answered(self, caller: Caller) -> None:
        """It does not wait any more. ClockWithThreads thread."""
        self._waiting.pop(caller, None)

    def _look(self) -> None:
        now = self.reactor.seconds()
        for caller, limit in list(self._waiting.items()):
            if limit <= now:
                caller.late = True
                caller.cancel()
        self._looking = bool(self._waiting)
        if self._looking:
            self.reactor.callLater(LOOK_SECONDS, self._look)


class Ferry:
    """
    The reactor's callFromThread, which wakes the reactor once for all calls that come before it looks.

    To wake it is a write(2) each time, and often gives Python's lock away.
    """

    _log = Logger()

    def __init__(self, reactor: ClockWithThreads) -> None:
        self._reactor = reactor
        self._calls: deque[tuple[Callable[..., Any], tuple[Any, ...]]] = deque()
        self._called = False

    def callFromThread(self, callable: Callable[..., Any], *args: Any) -> None:
        """As the reactor's. Any thread."""
        self._calls.append((callable, args))
        if not self._called:  # it becomes false before the calls are taken: none is ever left behind
            self._called = True
            self._reactor.callFromThread(self._take)

    def _take(self) -> None:
        self._called = False
        for _ in range(len(self._calls)):
            call, args = self._calls.popleft()
            try:
                call(*args)
            except Exception:  # as the reactor does: one mistake must not cost the others their turn
                self._log.failure("calling {call}", call=call)


class Caller:
    """One RPC's way to the reactor; knows when its client has left."""

    def __init__(self, bridge: Bridge, context: grpc.ServicerContext) -> None:
        self._bridge = bridge
        self._context = context
        self._waiting: Deferred[Any] | None = None
        self._follower: Follower | None = None
        self.late = False
        self._left = not context.add_callback(self._leave)

    def there(self) -> bool:
        """The client still waits for the answer. Any thread."""
        remaining = self._context.time_remaining()
        return not self._left and (remaining is None or remaining > 0)

    def check(self) -> None:
        """
        Any thread: for whatever may take long, now and then.

        Raises:
            CallerGone: the client left, or (DeadlineExceeded) its deadline passed.
            WorkerStopping: the bridge is closed.
        """
        self._check()
        if not self.there():
            raise DeadlineExceeded

    def call(self, ask: Callable[[], Deferred[T]], within_seconds: float | None = None) -> T:
        """
        Ask in the reactor thread and wait here for the answer. Any thread but the reactor's.

        Raises:
            CallerGone: the client left, or its deadline passed.
            WorkerStopping: the bridge is closed.
            twisted.internet.defer.TimeoutError: the limit is over, by up to LOOK_SECONDS.
            Exception: whatever the answer fails with.
        """
        try:
            return cast(T, blockingCallFromThread(cast(Any, self._bridge.ferry), self._begin, ask, within_seconds))
        except CancelledError as error:
            if self.late:
                raise DeferredTimeout(within_seconds, "the reactor was busy") from error
            raise (WorkerStopping if self._bridge.closed else CallerGone) from error

    @contextmanager
    def following(self, thing: Hashable, ask: Ask) -> Iterator[Follower]:
        """
        A place among those who follow that thing: to wait again and again without asking the reactor each time.

        Its wait() raises CallerGone and WorkerStopping as call() does. Any thread but the reactor's.
        """
        with self._bridge.crowds.following(thing, ask, self._check) as self._follower:
            yield self._follower

    def _check(self) -> None:
        if self._bridge.closed:
            raise WorkerStopping
        if self._left:
            raise CallerGone

    def _begin(self, ask: Callable[[], Deferred[T]], within_seconds: float | None) -> Any:
        self._check()
        waiting = ask()
        if waiting.called:
            return waiting
        self._waiting = waiting
        self._bridge.waits(self, within_seconds)
        waiting.addBoth(self._answered)
        if self._left:  # since it was checked: then nobody else cancels
            waiting.cancel()
        return waiting

    def _answered(self, result: T) -> T:
        self._bridge.answered(self)
        self._waiting = None
        return result

    def _leave(self) -> None:
        """gRPC's serving thread: the RPC is over, one way or another. Must not block."""
        self._left = True
        if self._follower is not None:
            self._follower.ring()
        if self._waiting is not None:
            self._bridge.ferry.callFromThread(self.cancel)

    def cancel(self) -> None:
        """Stop waiting. ClockWithThreads thread."""
        if self._waiting is not None:
            self._waiting.cancel()
