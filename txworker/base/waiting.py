"""Lets many callers wait for one thing, and each of them stop waiting on its own. Reactor thread only."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

T = TypeVar("T")


class Waiters:
    """
    Level-triggered waiting: each waiter gives the condition that it waits for, so a late waiter misses nothing.

    Cancelling a waiter's Deferred removes that waiter and does not affect the others.
    """

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: dict[Deferred[None], Callable[[], bool]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def until(self, condition: Callable[[], bool]) -> Deferred[None]:
        """Fires at once if the condition is true, else at the first wake() at which it is."""
        waiter: Deferred[None] = Deferred(self._remove)
        if condition():
            waiter.callback(None)
        else:
            self._waiting[waiter] = condition
        return waiter

    def wake(self) -> None:
        """Check every condition again and fire the waiters with a condition that is true."""
        for waiter, condition in list(self._waiting.items()):
            if waiter in self._waiting and condition():  # an earlier callback may have cancelled it
                del self._waiting[waiter]
                waiter.callback(None)

    def _remove(self, waiter: Deferred[None]) -> None:
        self._waiting.pop(waiter, None)


def detached(
    operation: Deferred[T], expected: type[Exception], left: Callable[[Deferred[T]], None] = lambda _: None
) -> Deferred[T]:
    """
    A Deferred that fires with the operation's result; cancelling it leaves the operation running, as asyncio.shield().

    If the operation fails after the returned Deferred was cancelled, a failure of type `expected` is dropped; any other
    one stays on the operation, so Twisted logs it as an unhandled error. left() is called when it is cancelled.
    """
    waiter: Deferred[T] = Deferred(left)

    def pass_on(result: object) -> object:
        """The operation is over: tell the waiter, unless it was cancelled."""
        if waiter.called:
            return None if isinstance(result, Failure) and result.check(expected) else result
        waiter.callback(result)  # type: ignore[arg-type]  # callback() with a Failure starts the errback chain
        return None

    operation.addBoth(pass_on)
    return waiter
