"""
The tables, in numbered steps. PRAGMA user_version tells how many steps were applied to a file.

A released step is never changed; a change of the tables is a new step.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence

from txworker.store.rows import shortened_text

APPLICATION_ID = 0x7478776B
"""PRAGMA application_id of the store's files: "txwk"."""

STEPS: Sequence[str] = (
    # A job is finished from state 4 on. The partial indexes are written once for each job, at its end.
    """
    CREATE TABLE jobs (
        number INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        revision INTEGER NOT NULL,
        state INTEGER NOT NULL,
        path TEXT NOT NULL,
        request_id TEXT,
        spec TEXT NOT NULL,
        created_at REAL NOT NULL,
        started_at REAL,
        finished_at REAL,
        pid INTEGER,
        started_ticks INTEGER,
        end_reason TEXT,
        exit_code INTEGER,
        signal INTEGER,
        user_cpu_seconds REAL NOT NULL DEFAULT 0,
        system_cpu_seconds REAL NOT NULL DEFAULT 0,
        max_rss_bytes INTEGER NOT NULL DEFAULT 0,
        output_bytes INTEGER NOT NULL DEFAULT 0,
        output_truncated INTEGER NOT NULL DEFAULT 0,
        leftovers_ended INTEGER NOT NULL DEFAULT 0,
        lost_text TEXT NOT NULL DEFAULT ''
    );
    CREATE UNIQUE INDEX jobs_by_request ON jobs (request_id) WHERE request_id IS NOT NULL;
    CREATE INDEX jobs_unfinished ON jobs (number) WHERE state < 4;
    CREATE INDEX jobs_by_end ON jobs (revision, finished_at, output_bytes) WHERE state >= 4;
    CREATE INDEX jobs_by_state ON jobs (state, number) WHERE state >= 4;
    CREATE INDEX jobs_by_path ON jobs (path, number) WHERE state >= 4 AND path <> '';
    CREATE TABLE labels (
        name TEXT NOT NULL,
        value TEXT NOT NULL,
        number INTEGER NOT NULL,
        PRIMARY KEY (name, value, number)
    ) WITHOUT ROWID;
    """,
    # The ids of jobs that retention removed, so that a query for one is answered with that.
    """
    CREATE TABLE removed (
        number INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        at REAL NOT NULL
    );
    """,
    # Full specs that are too long for the rows of jobs, which are read and written often and have a shortened spec.
    """
    CREATE TABLE orders (
        number INTEGER PRIMARY KEY,
        spec TEXT NOT NULL
    );
    INSERT INTO orders SELECT number, spec FROM jobs WHERE length(spec) > 4096 AND brief(spec) <> spec;
    UPDATE jobs SET spec = brief(spec) WHERE number IN (SELECT number FROM orders);
    """,
    # When a job ended, in elapsed time, for retention. And above what numbers and revisions continue when the rows
    # with the highest ones were lost.
    """
    ALTER TABLE jobs ADD COLUMN ended_elapsed REAL;
    CREATE TABLE floors (number INTEGER NOT NULL, revision INTEGER NOT NULL);
    """,
    # Whether an exit left a core dump, and why a job that is being ended does not end.
    """
    ALTER TABLE jobs ADD COLUMN core_dumped INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE jobs ADD COLUMN end_problem TEXT NOT NULL DEFAULT '';
    """,
    # For lists of a window of time. Takes half a second for a million jobs.
    """
    CREATE INDEX jobs_by_creation ON jobs (created_at) WHERE state >= 4;
    """,
    # What was in force when a job was started, as JSON; and how many workers have taken it over.
    """
    ALTER TABLE jobs ADD COLUMN settings TEXT NOT NULL DEFAULT '';
    ALTER TABLE jobs ADD COLUMN takeovers INTEGER NOT NULL DEFAULT 0;
    """,
    # How much of a job's output went to a separate stderr.
    """
    ALTER TABLE jobs ADD COLUMN stderr_bytes INTEGER;
    """,
)


class NewerSchema(Exception):
    """The file was written by a newer version of txworker."""

    def __init__(self, version: int) -> None:
        super().__init__(
            f"was written by a newer txworker (schema {version}, this one knows {len(STEPS)}): use that version, "
            "or another state directory"
        )


class ForeignFile(Exception):
    """The file is a database of another program."""


def check_ours(connection: sqlite3.Connection, steps: Sequence[str] = STEPS) -> int:
    """
    The schema version of the file, 0 for an empty one. Changes nothing.

    Raises:
        NewerSchema, ForeignFile: this version of txworker must not use it.
        sqlite3.Error: it cannot be read.
    """
    version = _number(connection, "user_version")
    empty = not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if not (empty and version == 0) and _number(connection, "application_id") != APPLICATION_ID:
        raise ForeignFile("is not a store of txworker: use another state directory")
    if version > len(steps):
        raise NewerSchema(version)
    return version


def upgrade(connection: sqlite3.Connection, backup: Callable[[int], None], steps: Sequence[str] = STEPS) -> None:
    """
    Bring a file to the newest schema. backup(old version) is called before a file with jobs is changed.

    Raises:
        NewerSchema, ForeignFile: nothing was changed.
        sqlite3.Error: the failed step was rolled back; the steps before it are committed.
    """
    connection.create_function("brief", 1, shortened_text)  # step 3 calls it by this name
    version = check_ours(connection, steps)
    if 0 < version < len(steps):
        backup(version)
    for number, step in enumerate(steps[version:], version + 1):
        _apply(connection, number, step)


def _apply(connection: sqlite3.Connection, number: int, step: str) -> None:
    try:
        connection.executescript(
            f"BEGIN IMMEDIATE; {step}; PRAGMA application_id = {APPLICATION_ID};"
            f" PRAGMA user_version = {number}; COMMIT;"
        )
    except sqlite3.Error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _number(connection: sqlite3.Connection, pragma: str) -> int:
    value: int = connection.execute(f"PRAGMA {pragma}").fetchone()[0]
    return value
