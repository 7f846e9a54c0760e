"""
When and in which thread batches are written: two writers with the same promises.

ReactorWriter is for commits that only have to reach the kernel. Such a commit takes some 50 µs, less than waking a
thread and being woken by it, so the reactor thread makes it, once per iteration. ThreadWriter is for commits that wait
for the disk (fsync).
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
from txworker.store.batches import DEFAULT_KIND, MAX_WRITES, RETRY_SECONDS, Batches, Kind, Outcome, Write, fire
from txworker.store.connection import Connection

T = TypeVar("T")

NOT_URGENT_SECONDS = 0.005
"""How long a write that is not urgent waits for others, to share their transaction."""

Connect = Callable[[], sqlite3.Connection]
TroubleChanged = Callable[[StoreBroken | None], None]
Committed = Callable[[float], None]
HasRoom = Callable[[], bool]


class Writer(Protocol):
    """Writes in the order of the calls. All methods: reactor thread."""

    def put(self, operation: Callable[[sqlite3.Connection], T], kind: Kind = DEFAULT_KIND) -> Deferred[T]:
        """
        Fires with the operation's result once it is committed.

        Raises (through the Deferred):
            StoreBroken: the disk refuses, and the operation is refusable; or the writer is closed.
        """

    def settle(self, within_seconds: float) -> None:
        """
        Block until everything is written. Only before the reactor runs.

        Raises:
            StoreBroken: it cannot be written now, or not in time.
        """

    def pause(self, reason: StoreBroken | None) -> None:
        """Write nothing from now on, as if the disk refused with that error; None: write again."""

    def with_connection(self, call: Callable[[Connection], None]) -> None:
        """
        call(connection) while nothing is written; it may close the connection and open it again. Blocks.

        A connection that is left closed is opened for the next write. What call() raises is passed to the caller.
        """

    def close(self) -> Deferred[None]:
        """Write what is pending and refuse what cannot be written. Fires when that is done."""


class ReactorWriter:
    """Writes in the reactor thread, at the end of an iteration."""

    def __init__(
        self, connect: Connect, clock: Clock, trouble_changed: TroubleChanged, committed: Committed, has_room: HasRoom
    ) -> None:
        self._connection = Connection(connect)
        self._clock = clock
        self._batches = Batches(fire, trouble_changed, committed, has_room)
        self._requested: list[Write] = []
        self._timer: Timer | None = None
        self._due = 0.0

    def put(self, operation: Callable[[sqlite3.Connection], T], kind: Kind = DEFAULT_KIND) -> Deferred[T]:
        """See Writer."""
        if self._batches.closing:
            return fail(_closed())
        write = Write(operation, kind)
        self._requested.append(write)
        self._schedule(0.0 if kind.urgent else NOT_URGENT_SECONDS)
        return write.answer

    def settle(self, within_seconds: float) -> None:
        """See Writer. The time is not limited: it depends on the disk."""
        self._write()
        if self._batches.trouble is not None:
            raise self._batches.trouble

    def close(self) -> Deferred[None]:
        """See Writer."""
        if self._batches.closing:
            return succeed(None)
        self._batches.closing = True
        self._write()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._connection.close()
        return succeed(None)

    def pause(self, reason: StoreBroken | None) -> None:
        """See Writer."""
        self._batches.paused_by = reason
        if reason is None and not self._batches.closing:
            self._schedule(0.0)

    def with_connection(self, call: Callable[[Connection], None]) -> None:
        """See Writer."""
        call(self._connection)

    def _schedule(self, seconds: float) -> None:
        due = self._clock.seconds() + seconds
        if self._timer is not None:
            if due >= self._due:
                return
            self._timer.cancel()
        self._due = due
        self._timer = self._clock.callLater(seconds, self._timer_fired)

    def _timer_fired(self) -> None:
        self._timer = None
        self._write()

    def _write(self) -> None:
        requested, self._requested = self._requested, []
        self._batches.attempt(self._connection, requested)
        if self._batches.trouble is not None and not self._batches.closing:
            self._schedule(RETRY_SECONDS)


class ThreadWriter:
    """
    Writes in a thread of its own; writes that are requested while it works form the next batch.

    call_from_thread: the reactor's callFromThread.
    trouble_changed() is called in the reactor thread, connect() and committed() in the writing thread.
    """

    def __init__(
        self,
        connect: Connect,
        call_from_thread: Callable[..., None],
        trouble_changed: TroubleChanged,
        committed: Committed,
        has_room: HasRoom,
    ) -> None:
        self._call_from_thread = call_from_thread
        self._batches = Batches(
            self._report, lambda trouble: call_from_thread(trouble_changed, trouble), committed, has_room
        )
        self._requested: queue.SimpleQueue[Write] = queue.SimpleQueue()
        self._settling: tuple[Deferred[Any], threading.Event] | None = None
        self._closed = False
        self._connection = Connection(connect)
        self._writing = threading.Lock()
        threading.Thread(target=self._run, name="txworker-store", daemon=True).start()

    def put(self, operation: Callable[[sqlite3.Connection], T], kind: Kind = DEFAULT_KIND) -> Deferred[T]:
        """See Writer."""
        if self._closed:
            return fail(_closed())
        write = Write(operation, kind)
        self._requested.put(write)
        return write.answer

    def settle(self, within_seconds: float) -> None:
        """See Writer."""
        write, written = Write(lambda connection: None), threading.Event()
        self._settling = write.answer, written
        self._requested.put(write)
        if not written.wait(within_seconds):
            raise self._batches.trouble or StoreBroken(f"nothing was written for {within_seconds:g} s")

    def close(self) -> Deferred[None]:
        """See Writer."""
        if self._closed:
            return succeed(None)
        self._closed = True
        write = Write(lambda connection: None, last=True)
        self._requested.put(write)
        return write.answer.addErrback(lambda failure: failure.trap(StoreBroken) and None)

    def pause(self, reason: StoreBroken | None) -> None:
        """See Writer."""
        with self._writing:
            self._batches.paused_by = reason
        self._requested.put(Write(lambda connection: None))

    def with_connection(self, call: Callable[[Connection], None]) -> None:
        """See Writer."""
        with self._writing:
            call(self._connection)

    def _report(self, outcomes: list[Outcome]) -> None:
        self._call_from_thread(fire, outcomes)
        if self._settling is not None and any(answer is self._settling[0] for answer, _ in outcomes):
            self._settling[1].set()

    def _run(self) -> None:
        while not self._batches.closing:
            batch = self._next_batch()
            with self._writing:
                self._batches.attempt(self._connection, batch)
        self._connection.close()

    def _next_batch(self) -> list[Write]:
        """The writes that were requested; empty when the disk refuses and it is time for another attempt."""
        batch: list[Write] = []
        with suppress(queue.Empty):
            batch.append(self._requested.get(timeout=RETRY_SECONDS if self._batches.trouble else None))
            while len(batch) < MAX_WRITES:
                batch.append(self._requested.get_nowait())
        return batch


def _closed() -> StoreBroken:
    return StoreBroken("it is closed")
