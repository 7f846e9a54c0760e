"""
When what has gathered is written, and where: two ways with the same promises.

Turns, when a commit need only reach the kernel: that takes some 50 µs, less than to wake a thread and to be woken by
it, so it is done in the reactor, once in a turn. Threaded, when a commit waits for the disk (fsync).
"""

from __future__ import annotations

import queue
import sqlite3
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred, fail, succeed

from txworker.base.reactor import Clock, Timer
from txworker.jobs.errors import StoreBroken
from txworker.store.batches import MOST_AT_ONCE, ORDINARY, RETRY_SECONDS, Batches, Kind, Order, Outcome, fire

T = TypeVar("T")

NO_HURRY_SECONDS = 0.005
"""How long that may wait for company which nobody waits for."""

Connect = Callable[[], sqlite3.Connection]
Troubled = Callable[[StoreBroken | None], None]
Written = Callable[[], None]
Roomy = Callable[[], bool]


class Writer(Protocol):
    """Writes in the order of the calls. All methods are the reactor thread's."""

    def put(self, operation: Callable[[sqlite3.Connection], T], kind: Kind = ORDINARY) -> Deferred[T]:
        """
        Fires with what the operation returned, once it is committed.

        Raises (through the Deferred):
            StoreBroken: the disk refuses, and the operation is refusable; or the writer is closed by now.
        """

    def settle(self, within_seconds: float) -> None:
        """
        Wait here until all that was put is written. Only before the reactor runs.

        Raises:
            StoreBroken: it cannot be written now, or not so soon.
        """

    def hold(self, reason: StoreBroken | None) -> None:
        """From now on nothing is written, for that reason; with None it is again. As if the disk refused meanwhile."""

    def exchange(self, make: Callable[[sqlite3.Connection], sqlite3.Connection]) -> None:
        """
        Write by another connection from now on: make() gets the old one, closes it and gives a new one. Blocks.

        When it raises, the old one stays, and what it raised goes to the caller.
        """

    def close(self) -> Deferred[None]:
        """Write what there is, give up what cannot be written; fires when that is done."""


class Turns:
    """Writes in the reactor thread, at the end of a turn."""

    def __init__(self, connect: Connect, clock: Clock, troubled: Troubled, written: Written, roomy: Roomy) -> None:
        self._connection = connect()
        self._clock = clock
        self._batches = Batches(fire, troubled, written, roomy)
        self._gathered: list[Order] = []
        self._timer: Timer | None = None
        self._due = 0.0

    def put(self, operation: Callable[[sqlite3.Connection], T], kind: Kind = ORDINARY) -> Deferred[T]:
        """As Writer has it."""
        if self._batches.closing:
            return fail(_closed())
        order = Order(operation, kind)
        self._gathered.append(order)
        self._schedule(0.0 if kind.hurry else NO_HURRY_SECONDS)
        return order.answer

    def settle(self, within_seconds: float) -> None:
        """As Writer has it; how long that takes is the disk's affair."""
        self._write()
        if self._batches.trouble is not None:
            raise self._batches.trouble

    def close(self) -> Deferred[None]:
        """As Writer has it."""
        if self._batches.closing:
            return succeed(None)
        self._batches.closing = True
        self._write()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        with suppress(sqlite3.Error):
            self._connection.close()
        return succeed(None)

    def hold(self, reason: StoreBroken | None) -> None:
        """As Writer has it."""
        self._batches.held = reason
        if reason is None and not self._batches.closing:
            self._schedule(0.0)

    def exchange(self, make: Callable[[sqlite3.Connection], sqlite3.Connection]) -> None:
        """As Writer has it."""
        self._connection = make(self._connection)

    def _schedule(self, seconds: float) -> None:
        due = self._clock.seconds() + seconds
        if self._timer is not None:
            if due >= self._due:
                return
            self._timer.cancel()
        self._due = due
        self._timer = self._clock.callLater(seconds, self._turn)

    def _turn(self) -> None:
        self._timer = None
        self._write()

    def _write(self) -> None:
        gathered, self._gathered = self._gathered, []
        self._batches.attempt(self._connection, gathered)
        if self._batches.trouble is not None and not self._batches.closing:
            self._schedule(RETRY_SECONDS)


class Threaded:
    """
    Writes in a thread of its own, whatever has gathered there meanwhile. call_from_thread is the reactor's.

    troubled() hears in the reactor thread; connect() and written() are called in the writing one.
    """

    def __init__(
        self,
        connect: Connect,
        call_from_thread: Callable[..., None],
        troubled: Troubled,
        written: Written,
        roomy: Roomy,
    ) -> None:
        self._call_from_thread = call_from_thread
        self._batches = Batches(self._tell, lambda trouble: call_from_thread(troubled, trouble), written, roomy)
        self._orders: queue.SimpleQueue[Order] = queue.SimpleQueue()
        self._settling: tuple[Deferred[Any], threading.Event] | None = None
        self._closed = False
        self._connection = connect()
        self._writing = threading.Lock()
        threading.Thread(target=self._run, name="txworker-store", daemon=True).start()

    def put(self, operation: Callable[[sqlite3.Connection], T], kind: Kind = ORDINARY) -> Deferred[T]:
        """As Writer has it."""
        if self._closed:
            return fail(_closed())
        order = Order(operation, kind)
        self._orders.put(order)
        return order.answer

    def settle(self, within_seconds: float) -> None:
        """As Writer has it."""
        order, written = Order(lambda connection: None), threading.Event()
        self._settling = order.answer, written
        self._orders.put(order)
        if not written.wait(within_seconds):
            raise self._batches.trouble or StoreBroken(f"nothing was written for {within_seconds:g} s")

    def close(self) -> Deferred[None]:
        """As Writer has it."""
        if self._closed:
            return succeed(None)
        self._closed = True
        order = Order(lambda connection: None, last=True)
        self._orders.put(order)
        return order.answer.addErrback(lambda failure: failure.trap(StoreBroken) and None)

    def hold(self, reason: StoreBroken | None) -> None:
        """As Writer has it."""
        with self._writing:
            self._batches.held = reason
        self._orders.put(Order(lambda connection: None))

    def exchange(self, make: Callable[[sqlite3.Connection], sqlite3.Connection]) -> None:
        """As Writer has it."""
        with self._writing:
            self._connection = make(self._connection)

    def _tell(self, outcomes: list[Outcome]) -> None:
        self._call_from_thread(fire, outcomes)
        if self._settling is not None and any(answer is self._settling[0] for answer, _ in outcomes):
            self._settling[1].set()

    def _run(self) -> None:
        while not self._batches.closing:
            taken = self._next()
            with self._writing:
                self._batches.attempt(self._connection, taken)
        with suppress(sqlite3.Error):
            self._connection.close()

    def _next(self) -> list[Order]:
        """What has gathered; none when the disk refuses and it is time to try again."""
        taken: list[Order] = []
        with suppress(queue.Empty):
            taken.append(self._orders.get(timeout=RETRY_SECONDS if self._batches.trouble else None))
            while len(taken) < MOST_AT_ONCE:
                taken.append(self._orders.get_nowait())
        return taken


def _closed() -> StoreBroken:
    return StoreBroken("it is closed")
