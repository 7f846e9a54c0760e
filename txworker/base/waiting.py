"""
Many wait for one thing, and each may give up alone. Reactor thread only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

T = TypeVar("T")


class Waiters:
    """
    Waiting by level, not by edge: each waiter names the condition it waits for, so a late one misses nothing.

    Cancelling a waiter's Deferred makes that one leave and touches nobody else.
    """

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: dict[Deferred[None], Callable[[], bool]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def until(self, condition: Callable[[], bool]) -> Deferred[None]:
        """Fires at once when the condition holds, otherwise at the first wake() after which it does."""
        waiter: Deferred[None] = Deferred(self._leave)
        if condition():
            waiter.callback(None)
        else:
            self._waiting[waiter] = condition
        return waiter

    def wake(self) -> None:
        """Something changed: tell those whose condition holds now."""
        for waiter, condition in list(self._waiting.items()):
            if waiter in self._waiting and condition():
                del self._waiting[waiter]
                waiter.callback(None)

    def _leave(self, waiter: Deferred[None]) -> None:
        self._waiting.pop(waiter, None)


def detached(order: Deferred[T], expected: type[Exception]) -> Deferred[T]:
    """
    A view of an order that runs to its end: cancelling the view stops the waiting only.

    The order's result or failure goes to the view. When nobody waits any more an expected failure is nobody's; any
    other stays on the order and is logged by Twisted.
    """
    view: Deferred[T] = Deferred(lambda _: None)

    def tell(result: object) -> object:
        if view.called:
            return None if isinstance(result, Failure) and result.check(expected) else result
        view.callback(result)  # type: ignore[arg-type]  # a Failure given to callback() travels the errback road
        return None

    order.addBoth(tell)
    return view
