"""A job that is written comes back as it was, without its stdin."""

from __future__ import annotations

import sqlite3
from dataclasses import fields, replace
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from txworker.jobs import (
    EndBlocked,
    EndReason,
    EndRequested,
    Exit,
    Exited,
    Fact,
    Job,
    JobSpec,
    Limits,
    Lost,
    Settings,
    Started,
    TakenOver,
    Usage,
    after,
)
from txworker.store import rows
from txworker.store.schema import upgrade

_CHECKED = JobSpec(
    command="python3 -u",
    path="scripts/größe.py",
    args=("", "two words", "tab\tnewline\n", "𝄞"),
    env={"A": "1", "EMPTY": "", "QUOTES": "\"'\\"},
    directory="/tmp",
    request_id="r-1",
    timeout_seconds=1.5,
    limits=Limits(1, 2**62, 0.25, 4, 5),
    labels={"team": "a", "": "no name"},
    quiet_timeout_seconds=1e-9,
    separate_stderr=True,
    stdin_sha256="ab" * 32,
    leftovers="keep",
    lease_seconds=30.0,
)
WHOLE = JobSpec.unchecked(**{**vars(_CHECKED), "tty": True, "tty_rows": 5, "tty_columns": 9, "feed": True})
"""No client can ask for all of it at once."""
SPECS = [
    WHOLE,
    JobSpec("true"),
    JobSpec("-"),
    JobSpec("", "/bin/true"),
    JobSpec("true", request_id="'; DROP TABLE jobs; --"),
    *(
        JobSpec.unchecked(**{"command": "true", field.name: getattr(WHOLE, field.name)})
        for field in fields(JobSpec)[1:]
    ),
]
USAGE = Usage(0.5, 0.25, 2**40)
EXIT = Exited(9.25, Exit(3, None, USAGE, 7), 2**50, True, elapsed=12.5)
CORE_DUMP = Exit(None, 11, USAGE, 7, core_dumped=True, end_problem="process 7 still runs")
ENDS: list[tuple[Fact, ...]] = [
    (),
    (Started(2.5, 42, 1_000),),
    (Started(2.5, 42),),
    (Lost(9.5, "the worker died", 11),),
    (Started(2.5, 42), Lost(9.5, "the worker died", 11, True, 12.5)),
    (Started(2.5, 42), EXIT),
    (Started(2.5, 42), replace(EXIT, stderr_bytes=0)),
    (Started(2.5, 42), Lost(9.5, "the worker died", 11, stderr_bytes=2**40)),
    (Started(2.5, 42), replace(EXIT, exit=Exit(None, 9, USAGE, 7))),
    (Started(2.5, 42), replace(EXIT, exit=CORE_DUMP)),
    (Started(2.5, 42), EndRequested(EndReason.REQUESTED), EndBlocked("process 42 still runs")),
    (TakenOver(), Started(2.5, 42), TakenOver()),
    *((Started(2.5, 42), EndRequested(reason)) for reason in EndReason),
    *((Started(2.5, 42), EndRequested(reason), EXIT) for reason in EndReason),
]


def a_job(spec: JobSpec, facts: tuple[Fact, ...] = ()) -> Job:
    settings = Settings("/srv/größe", Limits(max_open_files=9), "nobody") if spec is WHOLE else Settings()
    job = Job("id-1", spec, created_at=1.125, number=3, revision=5, settings=settings)
    for revision, fact in enumerate(facts, 6):
        job = after(job, fact, revision)
    return job


class RoundTripTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        self.addCleanup(self.connection.close)
        upgrade(self.connection, lambda version: None)

    def through_the_table(self, job: Job) -> Job:
        self.connection.execute("DELETE FROM jobs")
        self.connection.execute(rows.INSERT, rows.new_row(job))
        self.connection.execute(rows.UPDATE, rows.changed_row(job))
        return rows.job_from_row(self.connection.execute(f"SELECT {rows.COLUMNS} FROM jobs").fetchone())

    def test_every_spec(self) -> None:
        """Every field of a spec comes back with its type and value, whichever others are set."""
        for spec in SPECS:
            back = self.through_the_table(a_job(spec)).spec
            for field in fields(JobSpec):
                self.assertEqual(getattr(spec, field.name), getattr(back, field.name), (field.name, spec))
            self.assertEqual("", spec.difference(back))

    def test_every_fact(self) -> None:
        """Every field of a record comes back, in every state that a job may reach."""
        for facts in ENDS:
            job = a_job(WHOLE, facts)
            self.assertEqual(job, self.through_the_table(job))

    def test_trace(self) -> None:
        """A job's trace is not stored: it is of no use to a later worker."""
        self.assertEqual(rows.spec_to_text(_CHECKED), rows.spec_to_text(replace(_CHECKED, trace={"TRACEPARENT": "00"})))

    def test_every_field_is_tried(self) -> None:
        """The jobs above have a value other than the default in every field of a record and of a spec."""
        told = [a_job(WHOLE, facts) for facts in ENDS]
        for field in fields(Job):
            self.assertGreater(len({repr(getattr(job, field.name)) for job in [*told, Job("", SPECS[1], 0)]}), 1, field)
        unsaid = JobSpec("true")
        same = [field.name for field in fields(JobSpec) if getattr(WHOLE, field.name) == getattr(unsaid, field.name)]
        self.assertEqual(["stdin", "trace", "cut"], same)  # which have tests of their own

    def test_settings(self) -> None:
        """Each setting comes back; without any nothing is written."""
        for settings in (Settings("/"), Settings(user="x"), Settings(limits=Limits(1, 2, 0.5, 4, 5)), Settings()):
            text = rows.settings_to_text(settings)
            self.assertEqual((settings, bool(text)), (rows.settings_from_text(text), settings != Settings()))

    def test_every_column(self) -> None:
        """Every column of the schema is read; the copies for indexes are not."""
        columns = {row[1] for row in self.connection.execute("PRAGMA table_info(jobs)")}
        self.assertEqual(columns - {"path", "request_id"}, set(rows.NAMES))

    def test_plain_columns(self) -> None:
        """A new field of a record needs only a column, unless SQLite has no such value; then the import says so."""
        plain: tuple[Any, ...] = (int, str, float | None, int | None)
        others: tuple[Any, ...] = (bytes, Usage, bool | None, EndReason | None)
        for hint in plain:
            self.assertIsNone(rows.plain_column("new", hint).from_sql)
        self.assertIs(bool, rows.plain_column("new", bool).from_sql)
        for hint in others:
            error = self.assertRaises(TypeError, rows.plain_column, "new", hint)
            self.assertIn("Job.new is not a number, text or truth value", str(error))

    def test_new_row_is_enough(self) -> None:
        """A row that was only inserted reads as the pending job."""
        job = a_job(WHOLE)
        self.connection.execute(rows.INSERT, rows.new_row(job))
        row = self.connection.execute(f"SELECT {rows.COLUMNS} FROM jobs").fetchone()
        self.assertEqual(job, rows.job_from_row(row))

    def test_long(self) -> None:
        """The row of a long spec has the shortened one and the whole path; it reads as the shortened spec."""
        labels = {str(number): "x" * 100 for number in range(100)}
        job = a_job(JobSpec("true", "p" * 9_000, ("x" * 100_000,), {"A": "z" * 9_000}, labels=labels, stdin=b"in"))
        row = rows.new_row(job)
        self.assertLess(sum(len(str(value)) for value in row), 30_000)
        self.assertIn(job.spec.path, row)
        back, shortened = self.through_the_table(job).spec, job.spec.shortened()
        for field in fields(JobSpec):
            self.assertEqual(getattr(shortened, field.name), getattr(back, field.name), field.name)
        self.assertEqual(job.spec.shortened(), rows.spec_from_text(rows.shortened_text(rows.spec_to_text(job.spec))))
        self.assertEqual("no JSON", rows.shortened_text("no JSON"))

    def test_stdin(self) -> None:
        """Only the digest of stdin is stored; a spec with other bytes differs."""
        job = a_job(JobSpec("cat", stdin=b"a secret"))
        back = self.through_the_table(job).spec
        self.assertEqual(b"", back.stdin)
        self.assertEqual("", back.difference(job.spec))
        self.assertEqual("stdin", back.difference(JobSpec("cat", stdin=b"another")))
        self.assertEqual("stdin", back.difference(JobSpec("cat")))
        self.assertNotIn("a secret", "".join(self.connection.iterdump()))
