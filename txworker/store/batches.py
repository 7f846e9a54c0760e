"""
Writing what has gathered in one transaction, and telling; what happens when the disk refuses.

Commits cost far more than statements, so the more there is to do the cheaper each one gets. What was promised (the
end of a job) is kept and tried again until it can be written; what is only asked for (a new job) is refused meanwhile.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from txworker.jobs.errors import StoreBroken, StoreFull

RETRY_SECONDS = 0.25
"""Between attempts while the disk refuses."""

MOST_AT_ONCE = 500

Operation = Callable[[sqlite3.Connection], Any]
Outcome = tuple[Deferred[Any], Any]

_DISK_REFUSES = (sqlite3.OperationalError, sqlite3.DatabaseError)
"""These very classes; what is derived from them is a mistake of ours."""


class Kind(NamedTuple):
    """
    What there is to know of an operation.

    refusable: it may be refused for good. hurry: somebody waits for it. one_statement: it is one, which needs no
    transaction around it. replaces: of two that replace the same and are written together the later is enough.
    """

    refusable: bool = False
    hurry: bool = True
    one_statement: bool = False
    replaces: int | None = None


ORDINARY = Kind()


@dataclass(eq=False)
class Order:
    """Something to write; `last` when nothing comes after it."""

    operation: Operation
    kind: Kind = ORDINARY
    last: bool = False
    answer: Deferred[Any] = field(default_factory=Deferred)


class Batches:
    """
    Attempts batches over one connection, in one thread at a time.

    tell(outcomes) fires Deferreds, and troubled(error) hears that writing fails, and with None that it works again;
    written() hears of each commit. roomy() says whether a disk that was full has room for more than the next record:
    until then it is still called full, though a small one may fit now and then.
    """

    def __init__(
        self,
        tell: Callable[[list[Outcome]], object],
        troubled: Callable[[StoreBroken | None], object],
        written: Callable[[], None],
        roomy: Callable[[], bool],
    ) -> None:
        self._tell = tell
        self._roomy = roomy
        self._troubled = troubled
        self._written = written
        self.trouble: StoreBroken | None = None
        self.kept: list[Order] = []
        self.closing = False
        self.held: StoreBroken | None = None
        """Nothing is written meanwhile, for this reason; but at the very end it is, as nothing comes after that."""

    def attempt(self, connection: sqlite3.Connection, gathered: Sequence[Order]) -> None:
        """Write what was kept and what has gathered. Without either it finds out whether writing works again."""
        batch = gathered
        if self.kept:
            batch, self.kept = [*self.kept, *gathered], []
        self.closing = self.closing or any(order.last for order in batch)
        if self.held is not None and not self.closing:
            self._put_off(batch, self.held)
        elif batch:
            self._attempt(connection, batch)
        elif self.trouble is not None:
            self._probe(connection)

    def _attempt(self, connection: sqlite3.Connection, batch: Sequence[Order], all_of_it: bool = True) -> None:
        try:
            results = _written(connection, batch)
        except Exception as error:  # whatever it is, nobody may be left without an answer
            if isinstance(error, sqlite3.Error) and type(error) in _DISK_REFUSES:
                self._refused(connection, batch, in_our_words(error))
            elif len(batch) == 1:
                self._tell([(batch[0].answer, Failure(error))])
            else:
                self._one_by_one(connection, batch)
        else:
            if all_of_it:
                self._works()
            self._written()
            self._tell([(order.answer, result) for order, result in zip(batch, results, strict=True)])

    def _one_by_one(self, connection: sqlite3.Connection, batch: Sequence[Order]) -> None:
        """A mistake in one operation must not cost the others."""
        for index, order in enumerate(batch, 1):
            self._attempt(connection, [order])
            if self.trouble is not None:  # nothing may be written before what came before it
                self._put_off(batch[index:], self.trouble)
                return

    def _refused(self, connection: sqlite3.Connection, batch: Sequence[Order], trouble: StoreBroken) -> None:
        self._set_trouble(trouble)
        promised = [order for order in batch if not order.kind.refusable]
        if 0 < len(promised) < len(batch):  # less may fit
            self._put_off([order for order in batch if order.kind.refusable], trouble)
            self._attempt(connection, promised, all_of_it=False)
        else:
            self._put_off(batch, trouble)

    def _put_off(self, orders: Sequence[Order], trouble: StoreBroken) -> None:
        """Keep what was promised, unless nothing comes after this; refuse the rest."""
        given_up: list[Order] = []
        for order in orders:
            (given_up if order.kind.refusable or self.closing else self.kept).append(order)
        if given_up:
            self._tell([(order.answer, Failure(trouble)) for order in given_up])

    def _probe(self, connection: sqlite3.Connection) -> None:
        if self._still_full():  # to write would take of what little there is
            return
        try:
            _in_one_transaction(connection, [_write_something])
        except sqlite3.Error as error:
            self._set_trouble(in_our_words(error))
        else:
            self._works()
            self._written()

    def _works(self) -> None:
        if self.trouble is not None and not self._still_full():
            self._set_trouble(None)

    def _still_full(self) -> bool:
        return isinstance(self.trouble, StoreFull) and not self._roomy()

    def _set_trouble(self, trouble: StoreBroken | None) -> None:
        if str(trouble) != str(self.trouble):
            self.trouble = trouble
            self._troubled(trouble)


def fire(outcomes: list[Outcome]) -> None:
    """Tell each who waits. Reactor thread."""
    for answer, result in outcomes:
        answer.callback(result)


def in_our_words(error: sqlite3.Error) -> StoreBroken:
    """What SQLite says, as an error that a caller may meet."""
    return StoreFull("the disk is full") if "full" in str(error) else StoreBroken(str(error))


def _write_something(connection: sqlite3.Connection) -> None:
    """A page, that says what it said before."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    connection.execute(f"PRAGMA user_version = {version}")


def _written(connection: sqlite3.Connection, batch: Sequence[Order]) -> list[Any]:
    """What each operation returned, once all are committed; None of one that a later one replaces."""
    if len(batch) == 1 and batch[0].kind.one_statement:
        return [batch[0].operation(connection)]
    latest: dict[int | None, Order] = {order.kind.replaces: order for order in batch if order.kind.replaces is not None}
    needed = [order for order in batch if latest.get(order.kind.replaces, order) is order]
    if len(needed) == 1 and needed[0].kind.one_statement:
        results = [needed[0].operation(connection)]
    else:
        results = _in_one_transaction(connection, [order.operation for order in needed])
    found = dict(zip(needed, results, strict=True))
    return [found.get(order) for order in batch]


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
