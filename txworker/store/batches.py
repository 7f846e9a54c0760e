"""
Writes that were requested meanwhile go into one transaction; what happens when the disk refuses.

A commit costs far more than a statement, so the more writes there are, the cheaper each one gets. The end of a job must
not be lost, so it is kept and retried until it can be written. A new job is refused while nothing can be written.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from txworker.jobs.errors import StoreBroken, StoreFull
from txworker.store.connection import Connection

RETRY_SECONDS = 0.25
"""Between attempts while the disk refuses."""

MAX_WRITES = 500
"""In one transaction."""

Operation = Callable[[sqlite3.Connection], Any]
Outcome = tuple[Deferred[Any], Any]

DISK_REFUSES = (sqlite3.OperationalError, sqlite3.DatabaseError)
"""Exactly these classes; a subclass of them is a programming error."""


class Kind(NamedTuple):
    """
    What an operation permits.

    refusable: it fails when the disk refuses, instead of being kept and retried.
    urgent: a caller waits for it.
    one_statement: it is a single statement, which needs no transaction.
    replaces: of the writes in a batch with the same value only the last is made; None: it replaces none.
    """

    refusable: bool = False
    urgent: bool = True
    one_statement: bool = False
    replaces: int | None = None


DEFAULT_KIND = Kind()


@dataclass(eq=False)
class Write:
    """A requested write; `last`: the writer ends after it."""

    operation: Operation
    kind: Kind = DEFAULT_KIND
    last: bool = False
    answer: Deferred[Any] = field(default_factory=Deferred)


class Batches:
    """
    Writes batches over a connection. Used by one thread at a time.

    report(outcomes) fires Deferreds.
    trouble_changed(error) is called when writing begins to fail, and with None when it works again.
    committed(seconds) is called after each commit, with the time that the transaction took.
    has_room() tells whether a disk that was full has room for more than the next record. Until then the trouble lasts,
    even if a small record fits now and then.
    """

    def __init__(
        self,
        report: Callable[[list[Outcome]], object],
        trouble_changed: Callable[[StoreBroken | None], object],
        committed: Callable[[float], None],
        has_room: Callable[[], bool],
    ) -> None:
        self._report = report
        self._has_room = has_room
        self._trouble_changed = trouble_changed
        self._committed = committed
        self.trouble: StoreBroken | None = None
        self.pending: list[Write] = []
        self.closing = False
        self.paused_by: StoreBroken | None = None
        """While this is set nothing is written, except at the end, because then there is no later attempt."""

    def attempt(self, connection: Connection, requested: Sequence[Write]) -> None:
        """Write what is pending and what was requested. With neither, find out whether writing works again."""
        batch = requested
        if self.pending:
            batch, self.pending = [*self.pending, *requested], []
        self.closing = self.closing or any(write.last for write in batch)
        if self.paused_by is not None and not self.closing:
            self._defer(batch, self.paused_by)
        elif batch:
            self._attempt(connection, batch)
        elif self.trouble is not None:
            self._probe(connection)

    def _attempt(self, connection: Connection, batch: Sequence[Write], complete: bool = True) -> None:
        begun = time.perf_counter()
        try:
            results = _write(connection.get(), batch)
        except Exception as error:  # whatever it is, every write needs an answer
            if isinstance(error, sqlite3.Error) and type(error) in DISK_REFUSES:
                self._refused(connection, batch, to_store_error(error))
            elif len(batch) == 1:
                self._report([(batch[0].answer, Failure(error))])
            else:
                self._one_by_one(connection, batch)
        else:
            if complete:
                self._works()
            self._committed(time.perf_counter() - begun)
            self._report([(write.answer, result) for write, result in zip(batch, results, strict=True)])

    def _one_by_one(self, connection: Connection, batch: Sequence[Write]) -> None:
        """An operation with a programming error must not cost the others."""
        for index, write in enumerate(batch, 1):
            self._attempt(connection, [write])
            if self.trouble is not None:  # keeps the order: no write is made before an earlier one
                self._defer(batch[index:], self.trouble)
                return

    def _refused(self, connection: Connection, batch: Sequence[Write], trouble: StoreBroken) -> None:
        self._set_trouble(trouble)
        required = [write for write in batch if not write.kind.refusable]
        if 0 < len(required) < len(batch):  # without the others they may fit
            self._defer([write for write in batch if write.kind.refusable], trouble)
            self._attempt(connection, required, complete=False)
        else:
            self._defer(batch, trouble)

    def _defer(self, writes: Sequence[Write], trouble: StoreBroken) -> None:
        """Refuse refusable writes and keep the others pending. When closing, all are refused."""
        refused: list[Write] = []
        for write in writes:
            (refused if write.kind.refusable or self.closing else self.pending).append(write)
        if refused:
            self._report([(write.answer, Failure(trouble)) for write in refused])

    def _probe(self, connection: Connection) -> None:
        if self._still_full():  # a write would use some of the little room there is
            return
        begun = time.perf_counter()
        try:
            _in_one_transaction(connection.get(), [_rewrite_a_page])
        except sqlite3.Error as error:
            self._set_trouble(to_store_error(error))
        else:
            self._works()
            self._committed(time.perf_counter() - begun)

    def _works(self) -> None:
        if self.trouble is not None and not self._still_full():
            self._set_trouble(None)

    def _still_full(self) -> bool:
        return isinstance(self.trouble, StoreFull) and not self._has_room()

    def _set_trouble(self, trouble: StoreBroken | None) -> None:
        if str(trouble) != str(self.trouble):
            self.trouble = trouble
            self._trouble_changed(trouble)


def fire(outcomes: list[Outcome]) -> None:
    """Fire each Deferred with its result. Reactor thread."""
    for answer, result in outcomes:
        answer.callback(result)


def to_store_error(error: sqlite3.Error) -> StoreBroken:
    """SQLite's error as one that callers of the store know."""
    return StoreFull("the disk is full") if "full" in str(error) else StoreBroken(str(error))


def _rewrite_a_page(connection: sqlite3.Connection) -> None:
    """Write a page without changing it."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    connection.execute(f"PRAGMA user_version = {version}")


def _write(connection: sqlite3.Connection, batch: Sequence[Write]) -> list[Any]:
    """The result of each operation, after the commit; None for one that a later one replaces."""
    if len(batch) == 1 and batch[0].kind.one_statement:
        return [batch[0].operation(connection)]
    latest: dict[int | None, Write] = {write.kind.replaces: write for write in batch if write.kind.replaces is not None}
    needed = [write for write in batch if latest.get(write.kind.replaces, write) is write]
    if len(needed) == 1 and needed[0].kind.one_statement:
        results = [needed[0].operation(connection)]
    else:
        results = _in_one_transaction(connection, [write.operation for write in needed])
    by_write = dict(zip(needed, results, strict=True))
    return [by_write.get(write) for write in batch]


def _in_one_transaction(connection: sqlite3.Connection, operations: Sequence[Operation]) -> list[Any]:
    try:
        connection.execute("BEGIN IMMEDIATE")
        results = [operation(connection) for operation in operations]
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise
    return results
