"""What other programs do to the store's files is noticed."""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest import mock

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.store.fake_reactor import FakeReactor
from tests.support.descriptors import open_descriptors
from txworker.jobs import Job, JobSpec, Lost, after
from txworker.jobs.errors import StoreBroken
from txworker.store import file_watch
from txworker.store import jobs as store_jobs
from txworker.store.errors import InUse
from txworker.store.files import connect, damage_marker, prepare
from txworker.store.jobs import JobStore
from txworker.store.lease import Lease
from txworker.store.open_files import OpenFiles


class OpenFilesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.path = self.directory / "jobs.sqlite3"
        prepare(self.path)
        self.connection = connect(self.path)
        self.addCleanup(self.connection.close)
        self.connection.execute("SELECT count(*) FROM jobs")
        self.files = OpenFiles(self.path)
        self.addCleanup(self.files.close)

    def test_ordinary(self) -> None:
        """SQLite's own changes are no problem: writes, reads, checkpoints, further connections."""
        with closing(connect(self.path)) as another:
            another.execute("INSERT INTO removed (number, id, at) VALUES (1, 'x', 0)")
            self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self.assertEqual(("", True), (self.files.problem(), self.files.may_be_opened()))

    def test_gone(self) -> None:
        """Each file that is deleted or replaced is named; so is the directory."""
        for ending in ("", "-wal", "-shm"):
            name = Path(f"{self.path}{ending}")
            name.rename(self.directory / "kept")
            self.assertEqual(
                (f"{name} was deleted or moved", False), (self.files.problem(), self.files.may_be_opened())
            )
            name.write_bytes(b"")
            self.assertEqual((f"{name} was replaced", False), (self.files.problem(), self.files.may_be_opened()))
            (self.directory / "kept").rename(name)
            self.assertEqual(("", True), (self.files.problem(), self.files.may_be_opened()))
        elsewhere = self.directory.with_name("elsewhere")
        self.directory.rename(elsewhere)
        self.assertEqual(
            (f"{self.directory} was deleted or moved", False), (self.files.problem(), self.files.directory_is_same())
        )
        elsewhere.rename(self.directory)

    def test_closed(self) -> None:
        """A file whose directory was closed to the worker is not said to be gone."""
        with mock.patch("os.stat", side_effect=PermissionError(errno.EACCES, "Permission denied")):
            self.assertEqual(f"{self.directory} cannot be looked at: Permission denied", self.files.problem())

    def test_cut(self) -> None:
        """A cut file stays reported, even when it grows again, until the files are remembered anew."""
        size = self.path.stat().st_size
        os.truncate(self.path, 4096)
        words = f"{self.path} was cut from {size} to 4096 bytes"
        self.assertEqual(words, self.files.problem())
        os.truncate(self.path, size)
        self.assertEqual(words, self.files.problem())
        self.files.remember()
        self.assertEqual("", self.files.problem())

    def test_log_cut(self) -> None:
        """So does a log that lacks a part of what was written to it, also one with a hole in place of its beginning."""
        log = Path(f"{self.path}-wal")
        for number in range(3):
            self.connection.execute("INSERT INTO removed (number, id, at) VALUES (?, ?, 0)", (number, str(number)))
        whole = log.read_bytes()
        for left in (b"", whole[:31], whole[: len(whole) // 2], whole[:-1], bytes(len(whole))):
            self.assertEqual("", self.files.problem())
            log.write_bytes(left)
            self.assertEqual(f"{log} was cut", self.files.problem())
            log.write_bytes(whole)
            self.assertEqual(f"{log} was cut", self.files.problem())
            self.files.remember()

    def test_locks(self) -> None:
        """Looking takes away none of SQLite's locks on the index, without which another program would empty it."""
        self.connection.execute("INSERT INTO removed (number, id, at) VALUES (1, 'x', 0)")
        for _ in range(2):
            self.assertEqual("", self.files.problem())
            self.assertTrue(is_locked(Path(f"{self.path}-shm")))
        self.files.remember()
        self.assertTrue(is_locked(Path(f"{self.path}-shm")))


class LockTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.held = Lease(self.directory)
        self.addCleanup(lambda: self.held.close())
        self.file = self.directory / "worker.lock"

    def test_without_the_file(self) -> None:
        """Removing or replacing the locked file does not free the directory. retake() locks a new file."""
        for deed in (self.file.unlink, lambda: (self.directory / "new").replace(self.file)):
            (self.directory / "new").write_text("")
            deed()
            self.assertIn("worker.lock was ", self.held.problem())
            self.assertRaises(InUse, Lease, self.directory)
            self.held.retake()
            self.assertEqual("", self.held.problem())
            self.assertIn(f'"pid": {os.getpid()}', self.file.read_text())
            self.assertRaises(InUse, Lease, self.directory)

    def test_another_directory(self) -> None:
        """A new directory under the same name is taken only if no other worker has it."""
        self.assertFalse(self.held.directory_deleted)
        self.file.unlink()
        self.directory.rmdir()
        self.assertTrue(self.held.directory_deleted)
        self.directory.mkdir()
        others = Lease(self.directory)
        descriptors = open_descriptors()
        self.assertRaises(InUse, self.held.retake)
        self.assertEqual(set(), open_descriptors() - descriptors)
        others.close()
        self.held.retake()
        self.assertRaises(InUse, Lease, self.directory)


class FileWatchTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.clock = FakeReactor()
        self.told: list[str] = []
        self.store = JobStore(self.directory, False, self.clock, lambda trouble: self.told.append(str(trouble)))
        self.addCleanup(self.store.close)

    def added(self, number: int) -> Deferred[Job]:
        answer = self.store.add(Job(f"job-{number}", JobSpec("true"), 1.0, number, revision=number))
        self.clock.advance(0)
        return answer

    def test_no_sign_of_life(self) -> None:
        """A disk that cannot be written is reported before a write is requested; a full disk is not reported here."""

        def refuse(error: int) -> None:
            raise OSError(error, os.strerror(error))

        ordinary = self.store.lease.beat
        for error in (errno.EROFS, errno.EIO):
            self.patch(self.store.lease, "beat", lambda error=error: refuse(error))
            self.store.beat()
            self.store.beat()
            self.assertIn(f"the sign of life cannot be written: {os.strerror(error)}", self.told.pop())
            self.failureResultOf(self.added(error), StoreBroken)
            self.patch(self.store.lease, "beat", ordinary)
            self.store.beat()
            self.assertEqual(["None"], self.told)
            self.told.clear()
            self.successResultOf(self.added(100 + error))
        self.patch(self.store.lease, "beat", lambda: refuse(errno.ENOSPC))
        self.store.beat()
        self.assertEqual([], self.told)

    def test_noticed_at_once(self) -> None:
        """A new job that comes before the next beat is refused, and an end waits. Both are written after the repair."""
        job = self.successResultOf(self.added(1))
        (self.directory / "jobs.sqlite3").unlink()
        self.failureResultOf(self.added(2), StoreBroken)
        ended = after(job, Lost(2.0, "lost: testing", 0), 3)
        saved = self.store.save(ended)
        self.clock.advance(1)
        self.assertNoResult(saved)
        self.assertEqual("job-1", getattr(self.store.get("job-1"), "id", ""))
        self.store.beat()
        self.clock.advance(1)
        self.successResultOf(saved)
        self.successResultOf(self.added(3))
        self.assertEqual("None", self.told[-1])
        with closing(connect(self.directory / "jobs.sqlite3")) as connection:
            found = connection.execute("SELECT id, state FROM jobs ORDER BY number").fetchall()
        self.assertEqual([("job-1", 8), ("job-3", 1)], found)

    def test_log_cut(self) -> None:
        """
        What the open connection still has of a log that was cut is written anew; otherwise the next worker says that
        something is missing.
        """
        log = self.directory / "jobs.sqlite3-wal"
        for number in (1, 2):
            self.successResultOf(self.added(number))
            os.truncate(log, 0)
            self.patch(file_watch, "_copy", file_watch._copy if number == 1 else unreadable)
            self.store.beat()
            self.assertEqual(number == 2, damage_marker(self.directory / "jobs.sqlite3").exists())
        self.assertIn("jobs.sqlite3-wal was cut", self.told[-1])
        self.failureResultOf(self.added(3), StoreBroken)
        self.successResultOf(self.store.close())
        checkpoints_ended()
        again = JobStore(self.directory, False, self.clock, lambda trouble: None)
        self.addCleanup(again.close)
        self.assertTrue(again.forgot)
        self.assertEqual("job-1", getattr(again.get("job-1"), "id", ""))

    def test_another_directory_is_left_alone(self) -> None:
        """Nothing is written into a directory that took the place of the store's."""
        self.successResultOf(self.added(1))
        self.store.beat()
        self.directory.rename(self.directory.with_name("elsewhere"))
        self.directory.mkdir()
        self.store.beat()
        self.assertIn(" was replaced", self.told[-1])
        self.assertEqual([], list(self.directory.iterdir()))

    def test_written_at_the_end(self) -> None:
        """A worker that ends before the repair writes to the files that it has open, which may have been moved."""
        job = self.successResultOf(self.added(1))
        elsewhere = self.directory.with_name("elsewhere")
        self.directory.rename(elsewhere)
        self.store.beat()
        self.store.save(after(job, Lost(2.0, "lost: testing", 0), 3))
        self.store.close()
        with closing(connect(elsewhere / "jobs.sqlite3")) as connection:
            self.assertEqual([(8,)], connection.execute("SELECT state FROM jobs").fetchall())

    def deleted_and_not_opened(self) -> Job:
        """A job is stored; then the file is deleted, written anew, and not opened because there are no descriptors."""
        job = self.successResultOf(self.added(1))
        (self.directory / "jobs.sqlite3").unlink()
        self.patch(store_jobs, "connect", no_descriptors)
        self.store.beat()
        self.assertIn("deleted or moved", self.told[-1])
        return job

    def test_not_opened(self) -> None:
        """A file that was written anew and cannot be opened is opened by a later attempt, and nothing is lost."""
        job = self.deleted_and_not_opened()
        saved = self.store.save(after(job, Lost(2.0, "lost: testing", 0), 3))
        self.clock.advance(1)
        self.assertNoResult(saved)
        self.patch(store_jobs, "connect", connect)
        self.patch(time, "monotonic", lambda: 1e9)
        self.store.beat()
        self.clock.advance(1)
        self.successResultOf(saved)
        self.assertEqual("None", self.told[-1])
        self.successResultOf(self.added(2))
        with closing(connect(self.directory / "jobs.sqlite3")) as connection:
            found = connection.execute("SELECT id, state FROM jobs ORDER BY number").fetchall()
        self.assertEqual([("job-1", 8), ("job-2", 1)], found)

    def test_not_opened_until_the_end(self) -> None:
        """A worker that ends meanwhile opens that file to write what is pending."""
        job = self.deleted_and_not_opened()
        self.patch(store_jobs, "connect", connect)
        saved = self.store.save(after(job, Lost(2.0, "lost: testing", 0), 3))
        self.successResultOf(self.store.close())
        self.successResultOf(saved)
        with closing(connect(self.directory / "jobs.sqlite3")) as connection:
            self.assertEqual([("job-1", 8)], connection.execute("SELECT id, state FROM jobs").fetchall())

    def test_not_opened_and_replaced(self) -> None:
        """Another program's file in the place of the one that was written anew is not opened."""
        self.deleted_and_not_opened()
        path = self.directory / "jobs.sqlite3"
        path.rename(self.directory / "kept")
        path.write_bytes(b"theirs")
        self.patch(store_jobs, "connect", connect)
        self.patch(time, "monotonic", lambda: 1e9)
        self.store.beat()
        self.assertIn("does not work", self.told[-1])
        self.failureResultOf(self.added(2), StoreBroken)
        self.assertEqual(b"theirs", path.read_bytes())
        (self.directory / "kept").rename(path)
        self.patch(time, "monotonic", lambda: 2e9)
        self.store.beat()
        self.assertEqual("None", self.told[-1])
        self.successResultOf(self.added(3))


def is_locked(path: Path) -> bool:
    """Whether this process has a POSIX lock on the file (proc_locks(5))."""
    words = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    own = [line[5] for line in words if line[1] == "POSIX" and line[4] == str(os.getpid())]
    return any(place.endswith(f":{path.stat().st_ino}") for place in own)


def checkpoints_ended() -> None:
    """Wait until no thread of a closed store has a connection, as none of a dead worker has."""
    for thread in threading.enumerate():
        if thread.name == "txworker-checkpoints":
            thread.join(10.0)


def no_descriptors(*arguments: Any, **options: Any) -> sqlite3.Connection:
    """In place of connect()."""
    raise sqlite3.OperationalError("unable to open database file")


def unreadable(*arguments: Any) -> None:
    """In place of _copy()."""
    raise sqlite3.OperationalError("disk I/O error")
