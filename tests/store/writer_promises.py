"""What every writer promises; test_writer.py makes the writers."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred

from txworker.jobs.errors import StoreBroken, StoreFull
from txworker.store.batches import Kind
from txworker.store.files import connect
from txworker.store.writer import Writer

LIMIT = 20.0
FULL = sqlite3.OperationalError("database or disk is full")
GONE = sqlite3.OperationalError("disk I/O error")


class Connection:
    """A connection whose disk refuses when the test says so. Counts attempts and commits."""

    def __init__(self, path: Path) -> None:
        self.real = connect(path)
        self.refusal: sqlite3.Error | None = None
        self.refuse_from = ""
        self.commits = 0
        self.attempts = 0

    def execute(self, sql: str, parameters: Any = ()) -> Any:
        self.attempts += sql.startswith("BEGIN")
        if self.refusal is not None and sql.startswith(self.refuse_from) and sql != "ROLLBACK":
            raise self.refusal
        self.commits += sql == "COMMIT"
        return self.real.execute(sql, parameters)

    def close(self) -> None:
        self.real.close()


class WriterTests:
    """What every writer promises."""

    # the test case's, and the way's
    assertEqual: Any
    assertNoResult: Any
    assertRaises: Any
    failureResultOf: Any
    successResultOf: Any
    cannot_open: sqlite3.Error | None
    connection: Connection
    has_room: bool
    looks: int
    path: Path
    troubles: list[str]
    committed: list[float]
    writer: Writer

    def run_until(self, true: Callable[[], Any]) -> None:
        raise NotImplementedError

    def insert(self, word: str, refusable: bool = False, replaces: int | None = None) -> Deferred[str]:
        kind = Kind(refusable, replaces=replaces)
        return self.writer.put(lambda connection: self.inserted(connection, word), kind)

    def inserted(self, connection: sqlite3.Connection, word: str) -> str:
        connection.execute("INSERT INTO words (word) VALUES (?)", (word,))
        return word

    def mistake(self) -> Deferred[Any]:
        def operation(connection: sqlite3.Connection) -> None:
            raise ZeroDivisionError

        return self.writer.put(operation)

    def words(self) -> list[str]:
        with closing(connect(self.path)) as connection:
            return [row[0] for row in connection.execute("SELECT word FROM words ORDER BY rowid")]

    def refuse(self, refusal: sqlite3.Error, begin: str = "COMMIT") -> None:
        self.connection.refuse_from, self.connection.refusal = begin, refusal

    def settled(self, *answers: Deferred[Any]) -> None:
        self.run_until(lambda: all(answer.called for answer in answers))

    def test_one_transaction(self) -> None:
        """Writes that come together are committed together, in order, and each gets its own result."""
        self.hold()
        answers = [self.insert(str(number)) for number in range(100)]
        before = self.connection.commits
        self.release()
        self.settled(*answers)
        self.assertEqual([str(number) for number in range(100)], [self.successResultOf(answer) for answer in answers])
        self.assertEqual([str(number) for number in range(100)], self.words())
        self.assertEqual(1, self.connection.commits - before)

    def test_one_statement(self) -> None:
        """A single statement needs no transaction; when it is refused, it is kept and reported like others."""
        kind = Kind(one_statement=True)
        self.refuse(FULL, "INSERT")
        kept = self.writer.put(lambda connection: self.inserted(connection, "kept"), kind)
        self.run_until(lambda: self.troubles)
        before = self.connection.attempts
        self.mend()
        self.settled(kept)
        self.assertEqual(("kept", ["kept"]), (self.successResultOf(kept), self.words()))
        self.assertEqual((0, ["full", "well"]), (self.connection.attempts - before, self.troubles))

    def test_replaced(self) -> None:
        """Only the last of writes that replace the same record is made, in its place. All fire once it is committed."""
        self.hold()
        words = [("a", 1), ("b", 2), ("c", None), ("d", 1), ("e", None), ("f", 1)]
        answers = [self.insert(word, replaces=number) for word, number in words]
        self.release()
        self.settled(*answers)
        self.assertEqual(["b", "c", "e", "f"], self.words())
        self.assertEqual([None, "b", "c", None, "e", "f"], [self.successResultOf(answer) for answer in answers])

    def test_commits_are_timed(self) -> None:
        """Each commit is told with the time that it took; a batch that the disk refuses is not told."""
        self.settled(self.insert("a"))
        self.assertEqual([True], [0 < seconds < 10 for seconds in self.committed])
        self.refuse(FULL)
        kept = self.insert("b")
        self.run_until(lambda: self.troubles)
        self.assertEqual(1, len(self.committed))
        self.mend()
        self.settled(kept)
        self.assertEqual(2, len(self.committed))

    def test_left_closed(self) -> None:
        """A connection that was left closed is opened for the next write, which waits while that is impossible."""
        self.writer.with_connection(lambda connection: connection.close())
        self.cannot_open = GONE
        kept, refused = self.insert("kept"), self.insert("refused", refusable=True)
        self.run_until(lambda: self.troubles and refused.called)
        self.failureResultOf(refused, StoreBroken)
        self.assertNoResult(kept)
        self.cannot_open, self.connection = None, Connection(self.path)
        self.settled(kept)
        self.assertEqual((["kept"], 2), (self.words(), len(self.troubles)))

    def test_told_after_commit(self) -> None:
        """A write fires only when other connections can read it."""
        seen: list[list[str]] = []
        answer = self.insert("a").addCallback(lambda _: seen.append(self.words()))
        self.settled(answer)
        self.assertEqual([["a"]], seen)

    def test_mistake(self) -> None:
        """A failing operation does not affect the others."""
        self.hold()
        first, bad, last = self.insert("a"), self.mistake(), self.insert("b")
        self.release()
        self.settled(first, bad, last)
        self.failureResultOf(bad, ZeroDivisionError)
        self.assertEqual((["a", "b"], []), (self.words(), self.troubles))

    def test_refused(self) -> None:
        """While the disk is full, refusable writes fail at once with the reason and are not made later."""
        self.refuse(FULL)
        for _ in range(3):
            answer = self.insert("new", refusable=True)
            self.settled(answer)
            self.failureResultOf(answer, StoreFull)
        self.mend()
        self.assertEqual(([], ["full", "well"]), (self.words(), self.troubles))

    def test_promised(self) -> None:
        """Other writes wait in order until they can be made. Trouble is reported once at its begin and end."""
        self.refuse(FULL)
        answers = [self.insert(word) for word in "abc"]
        self.run_until(lambda: self.connection.attempts > 3)
        for answer in answers:
            self.assertNoResult(answer)
        answers.append(self.insert("d"))
        self.mend()
        self.settled(*answers)
        self.assertEqual((list("abcd"), ["full", "well"]), (self.words(), self.troubles))

    def test_any_step(self) -> None:
        """The disk may refuse any statement with the same effect."""
        for begin in ("BEGIN", "INSERT", "COMMIT"):
            self.refuse(GONE, begin)
            new, old = self.insert(f"new {begin}", refusable=True), self.insert(begin)
            self.settled(new)
            self.failureResultOf(new, StoreBroken)
            self.assertNoResult(old)
            self.mend()
            self.settled(old)
        self.assertEqual(["BEGIN", "INSERT", "COMMIT"], self.words())

    def test_mends_by_itself(self) -> None:
        """The writer finds out that the disk works again without a further write."""
        self.refuse(GONE)
        answer = self.insert("new", refusable=True)
        self.settled(answer)
        self.failureResultOf(answer, StoreBroken)
        self.mend()
        self.assertEqual(["broken", "well"], self.troubles)

    def test_mistake_on_a_full_disk(self) -> None:
        """A failing operation among kept ones on a full disk: no write is lost, and none overtakes another."""
        self.refuse(FULL)
        self.hold()
        first, bad, second, third = self.insert("a"), self.mistake(), self.insert("b"), self.insert("c")
        self.release()
        self.run_until(lambda: self.connection.attempts > 5)
        self.assertNoResult(first)
        self.mend()
        self.settled(first, bad, second, third)
        self.failureResultOf(bad, ZeroDivisionError)
        self.assertEqual(["a", "b", "c"], self.words())

    def test_less_fits(self) -> None:
        """A refusable write that does not fit does not stop the others."""
        self.connection.refuse_from = "INSERT INTO words (word) VALUES (?) -- long"

        def long(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT INTO words (word) VALUES (?) -- long", ("long",))

        self.connection.refusal = FULL
        self.hold()
        old, new = self.insert("old"), self.writer.put(long, Kind(refusable=True))
        self.release()
        self.settled(old, new)
        self.failureResultOf(new, StoreFull)
        self.assertEqual((["old"], "full"), (self.words(), self.troubles[0]))

    def test_close(self) -> None:
        """Closing makes the pending writes. Later writes are refused, and closing again is harmless."""
        answer = self.insert("a")
        closed = self.writer.close()
        self.settled(answer, closed)
        self.assertEqual(["a"], self.words())
        self.failureResultOf(self.insert("b"), StoreBroken)
        self.successResultOf(self.writer.close())

    def test_close_on_a_full_disk(self) -> None:
        """Closing always ends: writes that cannot be made fail."""
        self.refuse(FULL)
        answers = [self.insert("old"), self.insert("new", refusable=True), self.mistake(), self.insert("older")]
        closed = self.writer.close()
        self.settled(*answers, closed)
        self.successResultOf(closed)
        for answer in answers:
            self.failureResultOf(answer, StoreFull, ZeroDivisionError)
        self.assertEqual([], self.words())

    def test_close_in_trouble(self) -> None:
        """Closing ends also while there is trouble and nothing is pending; no error is left unhandled."""
        self.refuse(FULL)
        answer = self.insert("new", refusable=True)
        self.settled(answer)
        self.failureResultOf(answer, StoreFull)
        closed = self.writer.close()
        self.settled(closed)
        self.successResultOf(closed)

    def test_nearly_full(self) -> None:
        """While only small writes fit, they are made, but the trouble lasts, and no probe is written."""
        self.refuse(FULL)
        first = self.insert("first", refusable=True)
        self.settled(first)
        self.failureResultOf(first, StoreFull)
        self.connection.refusal, self.has_room = None, False
        second = self.insert("second", refusable=True)
        self.settled(second)
        self.assertEqual(("second", ["full"]), (self.successResultOf(second), self.troubles))
        third = self.insert("third")
        self.settled(third)
        before, looks = self.connection.attempts, self.looks
        self.run_until(lambda: self.looks > looks + 2)
        self.assertEqual((["full"], before), (self.troubles, self.connection.attempts))
        self.has_room = True
        self.mend()
        self.assertEqual((["second", "third"], ["full", "well"]), (self.words(), self.troubles))

    def test_settle(self) -> None:
        """settle() returns when everything is written, or raises the reason."""
        self.insert("a")
        self.writer.settle(LIMIT)
        self.assertEqual(["a"], self.words())
        self.refuse(FULL)
        self.insert("b")
        self.assertRaises(StoreFull, self.writer.settle, 0.3)

    def hold(self) -> None:
        """Writes are not made until release()."""

    def release(self) -> None: ...

    def mend(self) -> None:
        """The disk works again, and the writer has noticed."""
        self.connection.refusal = None
        self.run_until(lambda: self.troubles[-1:] != ["full"] and self.troubles[-1:] != ["broken"])

    def heard(self, trouble: StoreBroken | None) -> None:
        self.troubles.append("well" if trouble is None else "full" if isinstance(trouble, StoreFull) else "broken")
