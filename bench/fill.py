"""Fills a store with very many finished jobs, as after months of work, by writing to its file directly."""

from __future__ import annotations

import itertools
import random
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from txworker.jobs import JobSpec, JobState
from txworker.store.files import prepare
from txworker.store.jobs import FILE_NAME
from txworker.store.rows import spec_to_text

REMEMBERED = 2000
"""How many ids are returned, spread evenly over all jobs."""

OUTPUT = b"".join(b"line %d of a job that has ended\n" % number for number in range(200))

TEAMS = ("red", "green", "blue", "white", "black")

_STATES = (*[JobState.SUCCEEDED] * 8, JobState.FAILED, JobState.STOPPED)


def fill(directory: Path, count: int, seed: int = 1) -> list[str]:
    """
    Insert finished jobs into the store of a stopped worker in `directory`; returns some of their ids.

    A quarter of the jobs have a label, a tenth failed. Only the returned jobs have an output file, because a million
    files would measure the file system.
    """
    state, output = directory / "state", directory / "output"
    state.mkdir(mode=0o700, exist_ok=True)
    output.mkdir(mode=0o700, exist_ok=True)
    path = state / FILE_NAME
    prepare(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA cache_size = -400000")
        _insert(connection, count, random.Random(seed))
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        every = max(1, count // REMEMBERED) | 1  # odd, so that the sample has all kinds of jobs
        ids = [row[0] for row in connection.execute("SELECT id FROM jobs WHERE number % ? = 0", (every,))]
    for job_id in ids:
        (output / f"{job_id}.out").write_bytes(OUTPUT)
    return ids


def _insert(connection: sqlite3.Connection, count: int, rng: random.Random) -> None:
    """Inserts before creating the indexes, which is faster and leaves them as compact as appending does."""
    indexes = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL")
    dropped = dict(indexes.fetchall())
    connection.execute("BEGIN")
    for name in dropped:
        connection.execute(f"DROP INDEX {name}")
    rows = _rows(count, rng)
    first = next(rows)
    columns, values = ", ".join(first), ", ".join(f":{name}" for name in first)
    connection.executemany(f"INSERT INTO jobs ({columns}) VALUES ({values})", itertools.chain([first], rows))
    connection.executemany(
        "INSERT INTO labels (name, value, number) VALUES ('team', ?, ?)",
        ((TEAMS[number // 4 % len(TEAMS)], number) for number in range(4, count + 1, 4)),
    )
    for sql in dropped.values():
        connection.execute(sql)
    connection.execute("COMMIT")


def _rows(count: int, rng: random.Random) -> Iterator[dict[str, Any]]:
    begun = time.time() - count
    kinds = itertools.cycle([list(_template(index).items()) for index in range(20)])
    for number, kind in zip(range(1, count + 1), kinds, strict=False):
        own = {
            "number": number,
            "id": job_id(rng),
            "revision": 3 * number,
            "created_at": begun + number,
            "started_at": begun + number + 0.002,
            "finished_at": begun + number + 1.5,
            "pid": 1000 + number % 30000,
            "started_ticks": number * 100,
            "request_id": f"request-{number}" if number % 2 else None,
        }
        yield dict(kind, **own)


def _template(index: int) -> dict[str, Any]:
    """The columns that are the same for every twentieth job."""
    state = _STATES[index % len(_STATES)]
    path = f"/srv/scripts/nightly-{index}.sh"
    labels = {} if (index + 1) % 4 else {"team": TEAMS[(index + 1) // 4 % len(TEAMS)]}
    spec = JobSpec("bash", path, ("--date", "2026-11-25", "--all"), env={"LEVEL": "info"}, labels=labels)
    return {
        "path": path,
        "state": state.value,
        "spec": spec_to_text(spec),
        "end_reason": "asked" if state is JobState.STOPPED else None,
        "exit_code": {JobState.SUCCEEDED: 0, JobState.FAILED: 1}.get(state),
        "signal": 15 if state is JobState.STOPPED else None,
        "user_cpu_seconds": 0.25,
        "system_cpu_seconds": 0.125,
        "max_rss_bytes": 12_345_678,
        "output_bytes": len(OUTPUT),
        "output_truncated": 0,
        "leftovers_ended": 0,
        "lost_text": "",
    }


def job_id(rng: random.Random) -> str:
    """A random UUID, faster than uuid.uuid4()."""
    digits = f"{rng.getrandbits(128):032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
