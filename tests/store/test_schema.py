"""A store's file through every change of the schema: nothing is lost, and another program's file is not touched."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from unittest.mock import patch

from twisted.trial.unittest import SynchronousTestCase

from txworker.jobs import JobSpec, JobState, Settings
from txworker.store import files
from txworker.store.errors import Unusable
from txworker.store.files import connect, prepare
from txworker.store.rows import COLUMNS, job_from_row, spec_from_text
from txworker.store.schema import APPLICATION_ID, STEPS, ForeignFile, NewerSchema, upgrade

FIXTURES = Path(__file__).with_name("fixtures")
"""schema-N.sqlite3: written by the version of txworker that knew N steps."""

IDS = ["first", "second", "third"]


def version_of(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        version: int = connection.execute("PRAGMA user_version").fetchone()[0]
        return version


def ids_in(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return [row[0] for row in connection.execute("SELECT id FROM jobs ORDER BY number")]


def a_foreign_file(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")
        connection.execute("PRAGMA user_version = 900")
        connection.commit()


class UpgradeTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp())

    def a_store(self, version: int) -> Path:
        shutil.copyfile(FIXTURES / f"schema-{version}.sqlite3", self.path)
        return self.path

    def test_fixtures(self) -> None:
        """There is a file of every older schema."""
        self.assertEqual(list(range(1, len(STEPS))), [version_of(path) for path in sorted(FIXTURES.glob("*.sqlite3"))])

    def test_fresh(self) -> None:
        """An empty file becomes a store of the newest schema, without a backup."""
        self.assertFalse(prepare(self.path))
        self.assertEqual((len(STEPS), []), (version_of(self.path), ids_in(self.path)))
        self.assertEqual([self.path], list(self.path.parent.glob(f"{self.path.name}*")))

    def test_again(self) -> None:
        """A file of the newest schema is not changed."""
        prepare(self.path)
        with closing(connect(self.path)) as connection:
            upgrade(connection, self.fail)

    def test_every_older_schema(self) -> None:
        """A store of any older schema is backed up, then brought to the newest schema with every job in it."""
        for version in range(1, len(STEPS)):
            self.assertFalse(prepare(self.a_store(version)))
            self.assertEqual((len(STEPS), IDS), (version_of(self.path), ids_in(self.path)))
            copy = self.path.with_name(f"{self.path.name}.schema-{version}")
            self.assertEqual((version, IDS), (version_of(copy), ids_in(copy)))
            self.assertEqual(0o600, copy.stat().st_mode & 0o777)

    def test_read_after(self) -> None:
        """Records of an older version are read correctly."""
        prepare(self.a_store(1))
        with closing(connect(self.path)) as connection:
            found = connection.execute(f"SELECT {COLUMNS} FROM jobs ORDER BY number").fetchall()
        first, second, third = map(job_from_row, found)
        self.assertEqual(
            (JobState.SUCCEEDED, JobState.STOPPED, JobState.RUNNING), (first.state, second.state, third.state)
        )
        self.assertEqual(JobSpec("bash", "count.sh", ("3",), request_id="r-1", labels={"team": "a"}), first.spec)
        self.assertEqual((15, 1_700_000_004.5, 42), (second.signal, second.finished_at, third.pid))
        self.assertEqual((Settings(), 0), (third.settings, third.takeovers))

    def test_long_specs_after(self) -> None:
        """Long specs are shortened in their rows, and whole in the table of full specs."""
        for version in (2, 3):
            prepare(self.a_store(version))
            with closing(connect(self.path)) as connection:
                found = connection.execute(f"SELECT {COLUMNS} FROM jobs ORDER BY number").fetchall()
                full_specs = dict(connection.execute("SELECT number, spec FROM orders"))
            first, second, third = map(job_from_row, found)
            self.assertEqual(["count.sh"], [first.spec.path])
            self.assertEqual(
                [None, True, version == 2], [job.spec.cut and job.spec.cut.in_record for job in (first, second, third)]
            )  # an environment was in no record at the time of version 3
            whole = spec_from_text(full_specs[2])
            self.assertEqual(("x" * 5000, "y" * 5000), whole.args)
            self.assertEqual(whole.shortened(), second.spec)
            self.assertTrue(second.spec.has_label("n29", "29" * 200))
            self.assertEqual(({}, {"A": "z" * 5000}), (third.spec.env, spec_from_text(full_specs[3]).env))
            self.assertEqual({2, 3}, full_specs.keys())

    def test_copy_first(self) -> None:
        """Nothing is changed before the backup, or when it fails."""
        self.a_store(1)

        def refuse(version: int) -> None:
            self.assertEqual(1, version_of(self.path))
            raise OSError(28, "No space left on device")

        with closing(connect(self.path)) as connection:
            self.assertRaises(OSError, upgrade, connection, refuse)
        self.assertEqual((1, IDS), (version_of(self.path), ids_in(self.path)))

    def test_disk_full(self) -> None:
        """
        An upgrade for which the disk has no room is refused; its copy takes no room then, unless steps were taken.
        """

        def without_room(path: Path) -> sqlite3.Connection:
            connection = connect(path)
            connection.execute("PRAGMA max_page_count = 1")  # no page more than there are
            return connection

        for version, taken in ((1, 1), (4, 5)):
            path = self.a_store(version)
            with closing(connect(path)) as connection:
                connection.execute("CREATE TABLE takes_the_last_free_page (a)")
            with patch.object(files, "connect", without_room):
                self.assertRaises(sqlite3.OperationalError, prepare, path)
            self.assertEqual((taken, IDS), (version_of(path), ids_in(path)))
            copy = path.with_name(f"{path.name}.schema-{version}")
            self.assertEqual(taken > version, copy.exists())
            self.assertFalse(prepare(path))
            self.assertEqual((len(STEPS), IDS), (version_of(path), ids_in(path)))

    def test_step_that_fails(self) -> None:
        """A failing step leaves the file as it was before that step."""
        steps = [*STEPS, "CREATE TABLE half (a); INSERT INTO nowhere VALUES (1)"]
        prepare(self.path)
        with closing(connect(self.path)) as connection:
            self.assertRaises(sqlite3.Error, upgrade, connection, lambda version: None, steps)
            self.assertFalse(connection.in_transaction)
            tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master")]
        self.assertNotIn("half", tables)
        self.assertEqual(len(STEPS), version_of(self.path))


class RefusalTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp())

    def assert_refused(self, words: str) -> None:
        before = self.path.read_bytes()
        refusal = self.assertRaises(Unusable, prepare, self.path)
        self.assertIn(words, str(refusal))
        self.assertIn(str(self.path), str(refusal))
        self.assertEqual((before, [self.path]), (self.path.read_bytes(), list(self.path.parent.glob("*"))))

    def mktemp(self) -> str:
        directory = Path(super().mktemp())
        directory.mkdir()
        return str(directory / "store")

    def test_newer(self) -> None:
        """A store of a newer version is refused with both versions in the sentence, and not changed."""
        prepare(self.path)
        with closing(sqlite3.connect(self.path)) as connection:
            connection.execute(f"PRAGMA user_version = {len(STEPS) + 1}")
        self.assert_refused(f"was written by a newer txworker (schema {len(STEPS) + 1}, this one knows {len(STEPS)})")

    def test_foreign(self) -> None:
        """Another program's file is refused and not changed."""
        a_foreign_file(self.path)
        self.assert_refused("is not a store of txworker")

    def test_foreign_without_version(self) -> None:
        """The same when it has no user_version, or one that we know."""
        a_foreign_file(self.path)
        for version in (0, 1):
            with closing(sqlite3.connect(self.path)) as connection:
                connection.execute(f"PRAGMA user_version = {version}")
            self.assert_refused("is not a store of txworker")

    def test_errors(self) -> None:
        """Each refusal has its own class."""
        with closing(sqlite3.connect(":memory:")) as connection:
            connection.execute("PRAGMA user_version = 99")
            self.assertRaises(ForeignFile, upgrade, connection, self.fail)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            self.assertRaises(NewerSchema, upgrade, connection, self.fail)
