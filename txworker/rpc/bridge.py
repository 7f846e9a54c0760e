"""
The bridge between the gRPC threads and the reactor: the only place where a call crosses.

Every crossing can end: by its result, by its limit in seconds, by the client leaving, by shutdown. A thread
parked in blockingCallFromThread has no other way out, so each Deferred that a thread waits for is kept here.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar, cast

import grpc
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.threads import blockingCallFromThread

from txworker.jobs.errors import CallerGone, WorkerStopping
from txworker.rpc.crowd import Ask, Crowds, Follower

T = TypeVar("T")


class Reactor(Protocol):
    """What is asked of the reactor."""

    def callFromThread(self, callable: Callable[..., Any], *args: Any) -> None: ...

    def callLater(self, delay: float, callable: Callable[..., Any], *args: Any) -> Any: ...


class Bridge:
    """Makes callers, one for each RPC; closing it frees every thread that waits."""

    def __init__(self, reactor: Reactor) -> None:
        self.reactor = reactor
        self.waiting: set[Deferred[Any]] = set()
        self.crowds = Crowds(reactor)
        self.closed = False

    def caller(self, context: grpc.ServicerContext) -> Caller:
        """The caller behind one RPC. Any thread but the reactor's."""
        return Caller(self, context)

    def close(self) -> None:
        """No further crossing; those who wait are sent home. Reactor thread."""
        self.closed = True
        for waiting in list(self.waiting):
            waiting.cancel()
        self.crowds.ring()


class Caller:
    """One RPC's way to the reactor; knows when its client has left."""

    def __init__(self, bridge: Bridge, context: grpc.ServicerContext) -> None:
        self._bridge = bridge
        self._context = context
        self._waiting: Deferred[Any] | None = None
        self._follower: Follower | None = None
        self._left = not context.add_callback(self._leave)

    def there(self) -> bool:
        """The client still waits for the answer. Any thread."""
        remaining = self._context.time_remaining()
        return not self._left and (remaining is None or remaining > 0)

    def call(self, ask: Callable[[], Deferred[T]], within_seconds: float | None = None) -> T:
        """
        Ask in the reactor thread and wait here for the answer. Any thread but the reactor's.

        Raises:
            CallerGone: the client left, or its deadline passed.
            WorkerStopping: the bridge is closed.
            twisted.internet.defer.TimeoutError: the limit is over.
            Exception: whatever the answer fails with.
        """
        try:
            return cast(T, blockingCallFromThread(cast(Any, self._bridge.reactor), self._begin, ask, within_seconds))
        except CancelledError as error:
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
        if within_seconds is not None:
            waiting.addTimeout(within_seconds, cast(Any, self._bridge.reactor))
        self._waiting = waiting
        self._bridge.waiting.add(waiting)
        return waiting.addBoth(self._answered, waiting)

    def _answered(self, result: T, waiting: Deferred[T]) -> T:
        self._bridge.waiting.discard(waiting)
        self._waiting = None
        return result

    def _leave(self) -> None:
        """gRPC's serving thread: the RPC is over, one way or another. Must not block."""
        self._left = True
        if self._follower is not None:
            self._follower.ring()
        if self._waiting is not None:
            self._bridge.reactor.callFromThread(self._cancel)

    def _cancel(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
