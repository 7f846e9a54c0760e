"""
The bridge between gRPC threads and the reactor: a thread calls into the reactor and waits for the result.

Every call ends: with its result, after its time limit, when the client leaves, or when the worker stops. A thread in
blockingCallFromThread can be freed only by its Deferred, so the bridge keeps each Deferred that a thread waits for.
followers.py is for many threads that wait for the same thing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import grpc
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.threads import blockingCallFromThread

from txworker.base.reactor import ClockWithThreads
from txworker.jobs.errors import CallerGone, CallerLeft, DeadlineExceeded, WorkerStopping
from txworker.ports import NO_OBSERVER, Observer
from txworker.rpc.call_queue import CallQueue
from txworker.rpc.followers import Follower, FollowerGroups, WaitForMore

T = TypeVar("T")

CHECK_SECONDS = 1.0
"""How often time limits are checked. A timer for each call would cost more than the rest of the call."""


class Bridge:
    """Makes a Caller for each RPC. close() frees every waiting thread."""

    def __init__(self, reactor: ClockWithThreads, observer: Observer = NO_OBSERVER) -> None:
        self.reactor = reactor
        self.call_queue = CallQueue(reactor, observer.bridged)
        self._waiting: dict[Caller, float] = {}
        self._checking = False
        self.follower_groups = FollowerGroups(reactor)
        self.closed = False

    def caller(self, context: grpc.ServicerContext) -> Caller:
        """The caller of one RPC. Any thread but the reactor's."""
        return Caller(self, context)

    def close(self) -> None:
        """Refuse further calls and cancel the waiting ones. Reactor thread."""
        self.closed = True
        for caller in list(self._waiting):
            caller.cancel()
        self.follower_groups.wake_all()

    def started(self, caller: Caller, within_seconds: float | None) -> None:
        """The caller waits for a result from now on. Reactor thread."""
        self._waiting[caller] = math.inf if within_seconds is None else self.reactor.seconds() + within_seconds
        if within_seconds is not None and not self._checking:
            self._checking = True
            self.reactor.callLater(CHECK_SECONDS, self._check_limits)

    def finished(self, caller: Caller) -> None:
        """The caller no longer waits. Reactor thread."""
        self._waiting.pop(caller, None)

    def _check_limits(self) -> None:
        now = self.reactor.seconds()
        for caller, limit in list(self._waiting.items()):
            if limit <= now:
                caller.timed_out = True
                caller.cancel()
        self._checking = bool(self._waiting)
        if self._checking:
            self.reactor.callLater(CHECK_SECONDS, self._check_limits)


class Caller:
    """Calls into the reactor for one RPC; knows when its client has left."""

    def __init__(self, bridge: Bridge, context: grpc.ServicerContext) -> None:
        self._bridge = bridge
        self._context = context
        self._waiting: Deferred[Any] | None = None
        self._follower: Follower | None = None
        self.timed_out = False
        self._left = not context.add_callback(self._rpc_ended)

    def there(self) -> bool:
        """The client still waits for the answer. Any thread."""
        remaining = self._context.time_remaining()
        return not self._left and (remaining is None or remaining > 0)

    def check(self) -> None:
        """
        Raise if the work for this RPC is no longer needed. Call it now and then in work that may take long. Any thread.

        Raises:
            CallerGone: the client left.
            DeadlineExceeded: its deadline passed.
            WorkerStopping: the bridge is closed.
        """
        self._check()
        if not self.there():
            raise DeadlineExceeded

    def call(self, ask: Callable[[], Deferred[T]], within_seconds: float | None = None) -> T:
        """
        Call ask() in the reactor thread and block until its Deferred fires. Any thread but the reactor's.

        Raises:
            CallerGone: the client left, or its deadline passed; CallerLeft if ask() was called before.
            WorkerStopping: the bridge is closed.
            twisted.internet.defer.TimeoutError: the time limit passed, up to CHECK_SECONDS ago.
            Exception: what the Deferred fails with.
        """
        try:
            return cast(T, blockingCallFromThread(cast(Any, self._bridge.call_queue), self._begin, ask, within_seconds))
        except CancelledError as error:
            if self.timed_out:
                raise DeferredTimeout(within_seconds, "the reactor was busy") from error
            raise (WorkerStopping if self._bridge.closed else CallerLeft) from error

    @contextmanager
    def following(self, topic: Hashable, more: WaitForMore) -> Iterator[Follower]:
        """
        A follower of that topic, which waits repeatedly without a call into the reactor each time.

        Its wait() raises CallerGone and WorkerStopping as call() does. Any thread but the reactor's.
        """
        with self._bridge.follower_groups.following(topic, more, self._check) as self._follower:
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
        self._bridge.started(self, within_seconds)
        waiting.addBoth(self._finished)
        if self._left:  # the client left after the check, so _rpc_ended() did not see the Deferred
            waiting.cancel()
        return waiting

    def _finished(self, result: T) -> T:
        self._bridge.finished(self)
        self._waiting = None
        return result

    def _rpc_ended(self) -> None:
        """gRPC's serving thread, also when the RPC is answered. Must not block."""
        self._left = True
        if self._follower is not None:
            self._follower.wake()
        if self._waiting is not None:
            self._bridge.call_queue.callFromThread(self.cancel)

    def cancel(self) -> None:
        """Stop waiting. Reactor thread."""
        if self._waiting is not None:
            self._waiting.cancel()
