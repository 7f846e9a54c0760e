"""
The thread that writes: takes what has gathered, writes it in one transaction, then tells.

Commits cost far more than statements, so the more there is to do the cheaper each one gets. The reactor never waits
for a disk. What was promised (the end of a job) is kept and tried again until it can be written; what is only
asked for (a new job) is refused meanwhile.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from txworker.jobs.errors import StoreBroken, StoreFull

T = TypeVar("T")

RETRY_SECONDS = 0.25
"""Between attempts while the disk refuses."""

_MOST_AT_ONCE = 500

_DISK_REFUSES = (sqlite3.OperationalError, sqlite3.DatabaseError)
"""These very classes; what is derived from them is a mistake of ours."""

Operation = Callable[[sqlite3.Connection], Any]
CallFromThread = Callable[..., None]
Outcome = tuple[Deferred[Any], Any]


@dataclass(eq=False)
class _Order:
    operation: Operation
    refusable: bool = False
    last: bool = False
    answer: Deferred[Any] = field(default_factory=Deferred)


class Writer:
    """
    One connection, one thread, first in first out.

    call_from_thread is the reactor's; troubled(error) hears in the reactor thread that writing fails, and with None
    that it works again. connect() and written(), which hears of each commit, are called in the thread.
    """

    _log = Logger()

    def __init__(
        self,
        connect: Callable[[], sqlite3.Connection],
        call_from_thread: CallFromThread,
        troubled: Callable[[StoreBroken | None], None],
        written: Callable[[], None] = lambda: None,
    ) -> None:
        self._connect = connect
        self._call_from_thread = call_from_thread
        self._troubled = troubled
        self._written = written
        self._trouble: StoreBroken | None = None
        self._orders: queue.SimpleQueue[_Order] = queue.SimpleQueue()
        self._kept: list[_Order] = []
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="txworker-store", daemon=True)

    def start(self) -> None:
        """From now on what is put is written."""
        self._thread.start()

    def put(self, operation: Callable[[sqlite3.Connection], T], refusable: bool = False) -> Deferred[T]:
        """
        Fires in the reactor thread with what the operation returned, once it is committed. Any thread.

        Raises (through the Deferred):
            StoreBroken: the disk refuses, and the operation is refusable; or the writer was closed meanwhile.
        """
        order = _Order(operation, refusable)
        self._orders.put(order)
        return order.answer

    def close(self) -> Deferred[None]:
        """Write what there is, give up what cannot be written, end the thread; fires when that is done."""
        order = _Order(lambda connection: None, last=True)
        self._orders.put(order)
        return order.answer.addErrback(lambda failure: failure.trap(StoreBroken) and None)

    def _run(self) -> None:
        connection = self._connect()
        while not self._closing:
            batch = self._next()
            self._closing = any(order.last for order in batch)
            self._attempt(connection, batch)
        with suppress(sqlite3.Error):
            connection.close()

    def _next(self) -> list[_Order]:
        """What is to be written next: what was kept, and what has gathered."""
        taken, self._kept = self._kept, []
        with suppress(queue.Empty):
            taken.append(self._orders.get(timeout=RETRY_SECONDS if self._trouble else None))
            while len(taken) < _MOST_AT_ONCE:
                taken.append(self._orders.get_nowait())
        return taken or [_Order(_probe)]

    def _attempt(self, connection: sqlite3.Connection, batch: Sequence[_Order]) -> None:
        try:
            results = _in_one_transaction(connection, batch)
        except Exception as error:  # whatever it is, nobody may be left without an answer
            if isinstance(error, sqlite3.Error) and type(error) in _DISK_REFUSES:
                self._refused(connection, batch, in_our_words(error))
            elif len(batch) == 1:
                self._tell([(batch[0].answer, Failure(error))])
            else:  # a mistake in one operation must not cost the others
                for order in batch:
                    self._attempt(connection, [order])
        else:
            self._set_trouble(None)
            self._tell([(order.answer, result) for order, result in zip(batch, results, strict=True)])
            self._written()

    def _refused(self, connection: sqlite3.Connection, batch: Sequence[_Order], trouble: StoreBroken) -> None:
        self._set_trouble(trouble)
        given_up = [order for order in batch if order.refusable or self._closing]
        promised = [order for order in batch if order not in given_up]
        self._tell([(order.answer, Failure(trouble)) for order in given_up])
        if given_up and promised:  # less may fit
            self._attempt(connection, promised)
        else:
            self._kept = [order for order in promised if order.operation is not _probe]

    def _set_trouble(self, trouble: StoreBroken | None) -> None:
        if str(trouble) != str(self._trouble):
            self._trouble = trouble
            self._call_from_thread(self._troubled, trouble)

    def _tell(self, outcomes: list[Outcome]) -> None:
        self._call_from_thread(_fire, outcomes)


def _fire(outcomes: list[Outcome]) -> None:
    for answer, result in outcomes:
        answer.callback(result)


def _probe(connection: sqlite3.Connection) -> None:
    """Writes a page, and changes nothing."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    connection.execute(f"PRAGMA user_version = {version}")


def _in_one_transaction(connection: sqlite3.Connection, batch: Sequence[_Order]) -> list[Any]:
    try:
        connection.execute("BEGIN IMMEDIATE")
        results = [order.operation(connection) for order in batch]
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise
    return results


def in_our_words(error: sqlite3.Error) -> StoreBroken:
    """What SQLite says, as an error that a caller may meet."""
    return StoreFull("the disk is full") if "full" in str(error) else StoreBroken(str(error))
