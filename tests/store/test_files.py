"""A damaged file never keeps the worker from starting, and a sound file is never taken for damaged."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest.mock import Mock, patch

from twisted.trial.unittest import SynchronousTestCase

from txworker.store import files
from txworker.store.errors import Unusable
from txworker.store.files import Highest, connect, forgot_marker, prepare
from txworker.store.salvage import salvage


class FilesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.path = self.directory / "jobs.sqlite3"

    def fill(self, connection: sqlite3.Connection, rows: int = 2000) -> None:
        connection.execute("BEGIN")
        connection.executemany(
            "INSERT INTO removed (number, id, at) VALUES (?, ?, 0)",
            [(number, f"{number:036}") for number in range(1, rows + 1)],
        )
        connection.execute("COMMIT")

    def count(self) -> int:
        with closing(connect(self.path)) as connection:
            count: int = connection.execute("SELECT count(*) FROM removed").fetchone()[0]
            return count

    def a_store(self) -> bytes:
        prepare(self.path)
        with closing(connect(self.path)) as connection:
            self.fill(connection)
        return self.path.read_bytes()

    def killed(self) -> None:
        """A store as a killed worker leaves it: the last writes are only in the log."""
        alive = self.directory / "alive"
        prepare(alive)
        with closing(connect(alive)) as connection:
            self.fill(connection)
            for ending in ("", "-wal"):
                shutil.copyfile(f"{alive}{ending}", f"{self.path}{ending}")
        for left in self.directory.glob("alive*"):
            left.unlink()

    def assert_set_aside(self, damaged: bytes, least: int = 0) -> None:
        self.assertTrue(prepare(self.path))
        (aside,) = [path for path in self.directory.glob("*.damaged-*") if not path.name.endswith(("-wal", "-shm"))]
        self.assertEqual(damaged, aside.read_bytes())
        self.assertIn(self.count(), range(least, 2001))
        forgot_marker(self.path).unlink()
        self.assertEqual(2, len(list(self.directory.glob("*"))))
        self.assertFalse(prepare(self.path))

    def test_truncated(self) -> None:
        """A file that was cut at any length is set aside whole, and a new one is created."""
        whole = self.a_store()
        for size in (99, 100, 4095, 4096, 8192, len(whole) // 2 + 1, len(whole) - 1):
            for left in self.directory.iterdir():
                left.unlink()
            self.path.write_bytes(whole[:size])
            self.assert_set_aside(whole[:size])

    def test_garbage(self) -> None:
        """So is a file that is no store, or that has a foreign page."""
        whole = self.a_store()
        page = len(whole) // 8192 * 4096
        spoilt = [b"x" * 99, b"garbage" * 3000, bytes(8192), b"x" * 4096 + whole[4096:]]
        spoilt.append(whole[:page] + os.urandom(4096) + whole[page + 4096 :])
        for data in spoilt:
            for left in self.directory.iterdir():
                left.unlink()
            self.path.write_bytes(data)
            self.assert_set_aside(data, 1800 if len(data) == len(whole) and data is spoilt[-1] else 0)

    def test_incomplete(self) -> None:
        """A file without one of its tables or indexes is set aside, with the other tables saved."""
        whole = self.a_store()
        with closing(connect(self.path)) as connection:
            names = connection.execute("SELECT type, name FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
        for kind, name in names:
            for left in self.directory.iterdir():
                left.unlink()
            self.path.write_bytes(whole)
            with closing(connect(self.path)) as connection:
                connection.execute(f"DROP {kind} {name}")
            self.assertTrue(prepare(self.path), name)
            self.assertEqual(0 if name == "removed" else 2000, self.count())
            forgot_marker(self.path).unlink()
            self.assertFalse(prepare(self.path))

    def test_log_cut(self) -> None:
        """
        Files of a worker that was killed, with a log that was cut or deleted then, are sound, but something is lost.
        After a power failure the log's index says nothing.
        """
        self.a_store()
        killed = self.directory.with_name("killed")
        log = killed / f"{self.path.name}-wal"
        with closing(connect(self.path)) as connection:
            connection.execute("UPDATE removed SET at = 1 WHERE number = 7")
            for deed, rebooted, lost in (
                (lambda: None, False, False),
                (lambda: os.truncate(log, 100), False, True),
                (log.unlink, False, True),
                (log.unlink, True, False),
            ):
                shutil.rmtree(killed, ignore_errors=True)
                shutil.copytree(self.directory, killed)
                deed()
                self.assertEqual(lost, prepare(killed / self.path.name, Highest(1, 1), rebooted))
                forgot_marker(killed / self.path.name).unlink(missing_ok=True)
                self.assertFalse(prepare(killed / self.path.name, Highest(1, 1), rebooted))

    def test_leftover_log(self) -> None:
        """A log beside garbage is set aside with it, and not used for the new file."""
        whole = self.a_store()
        with closing(connect(self.path)) as connection:
            connection.execute("UPDATE removed SET at = 1 WHERE number = 7")
            log = Path(f"{self.path}-wal").read_bytes()
        self.assertTrue(log)
        self.path.write_bytes(b"garbage" * (len(whole) // 7))
        Path(f"{self.path}-wal").write_bytes(log)
        self.assertTrue(prepare(self.path))
        self.assertEqual(0, self.count())
        self.assertTrue(list(self.directory.glob("*.damaged-*")))

    def test_set_aside_twice(self) -> None:
        """A second damaged file within a second does not overwrite the first one."""
        self.patch(files.time, "strftime", lambda form: "now")  # type: ignore[attr-defined]
        for data in (b"first" * 99, b"second" * 99, b"third" * 99):
            self.path.write_bytes(data)
            self.assertTrue(prepare(self.path))
        aside = sorted(self.directory.glob("*.damaged-*"))
        self.assertEqual([b"first" * 99, b"second" * 99, b"third" * 99], [path.read_bytes() for path in aside])

    def test_killed(self) -> None:
        """What a killed worker wrote only to the log is there, and counts as no damage."""
        self.killed()
        self.assertLess(self.path.stat().st_size, 2000 * 36)
        self.assertFalse(prepare(self.path))
        self.assertEqual(2000, self.count())

    def test_torn_log(self) -> None:
        """A log with a torn end restores everything that was committed before the tear."""
        self.killed()
        log = Path(f"{self.path}-wal")
        with closing(connect(self.path)) as connection:
            connection.execute("UPDATE removed SET at = 1 WHERE number = 7")
            data = log.read_bytes()
            file = self.path.read_bytes()
        self.path.write_bytes(file)
        log.write_bytes(data[:-100])
        self.assertFalse(prepare(self.path))
        self.assertEqual(2000, self.count())

    def test_somebody_reads(self) -> None:
        """A reader that blocks the checkpoint does not make the file look too short."""
        self.patch(files, "BUSY_SECONDS", 0.01)
        prepare(self.path)
        with closing(connect(self.path)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM removed").fetchall()
            with closing(connect(self.path)) as writer:
                self.fill(writer)
            self.assertFalse(prepare(self.path))
        self.assertEqual(2000, self.count())

    def test_large_file(self) -> None:
        """Only the length of a large file is checked, so that starting takes no longer."""
        self.patch(files, "FULL_CHECK_BYTES", 4096)
        whole = self.a_store()
        self.path.write_bytes(whole[:-1])
        self.assert_set_aside(whole[:-1], 1800)

    def test_disk_is_no_damage(self) -> None:
        """An error of the disk, or another program's lock, is raised, and the file stays where it is."""
        self.patch(files, "BUSY_SECONDS", 0.01)
        self.a_store()
        with closing(sqlite3.connect(self.path, isolation_level=None)) as holder:
            holder.execute("PRAGMA locking_mode = EXCLUSIVE")
            holder.execute("BEGIN IMMEDIATE")
            self.assertRaises(sqlite3.OperationalError, prepare, self.path)
        self.assertEqual([], list(self.directory.glob("*.damaged-*")))

    def snapshots(self, act: Callable[[], object]) -> list[Path]:
        """What a process that is killed would leave: a copy of the directory before each rename, and while it saves."""
        found: list[Path] = []

        def snapshot_before(call: Callable[..., Any]) -> Callable[..., Any]:
            def snapshot(*args: Any) -> Any:
                found.append(Path(shutil.copytree(self.directory, self.mktemp())))
                return call(*args)

            return snapshot

        with (
            patch.object(os, "replace", snapshot_before(os.replace)),
            patch.object(files, "salvage", snapshot_before(salvage)),
            patch.object(files, "_continue_above", snapshot_before(files._continue_above)),
        ):
            act()
        return found

    def test_killed_in_a_repair(self) -> None:
        """A process that is killed at any moment of a repair forgets nothing that could be saved."""
        whole = self.a_store()
        page = len(whole) // 8192 * 4096
        damaged = whole[:page] + b"x" * 4096 + whole[page + 4096 :]
        self.path.write_bytes(damaged)
        Path(f"{self.path}-wal").write_bytes(b"a log")
        for snapshot in self.snapshots(lambda: prepare(self.path, Highest(2000, 7))):
            self.directory, self.path = snapshot, snapshot / self.path.name
            self.assertTrue(prepare(self.path, Highest(2000, 7)))
            self.assertIn(self.count(), range(1800, 2001))
            self.assertEqual([(102000, 1000007)], self.floors())
            self.assertTrue(any(damaged == path.read_bytes() for path in snapshot.glob("*.damaged-*")))
            forgot_marker(self.path).unlink()
            left = [path.name for path in snapshot.iterdir() if ".damaged-" not in path.name]
            self.assertEqual([self.path.name], left)
            self.assertFalse(prepare(self.path, Highest(2000, 7)))

    def test_killed_with_the_store_gone(self) -> None:
        """A process that is killed before it has replaced a store that is gone leaves that to the next one."""
        for snapshot in self.snapshots(lambda: prepare(self.path, Highest(2000, 7))):
            self.directory, self.path = snapshot, snapshot / self.path.name
            self.assertTrue(prepare(self.path, Highest(2000, 7)))
            self.assertEqual([(102000, 1000007)], self.floors())
            forgot_marker(self.path).unlink()
            self.assertEqual([self.path], list(snapshot.iterdir()))

    def test_killed_after_a_repair(self) -> None:
        """What follows from a repair is left to the next process until it is settled."""
        spoils: list[Callable[[], object]] = [lambda: self.path.write_bytes(b"garbage" * 99), self.path.unlink]
        for spoil in spoils:
            self.a_store()
            spoil()
            self.assertEqual([True, True], [prepare(self.path, Highest(2000, 7)) for _ in range(2)])
            forgot_marker(self.path).unlink()
            self.assertFalse(prepare(self.path, Highest(2000, 7)))

    def test_killed_while_it_is_written_anew(self) -> None:
        """What a killed process leaves of a store that it wrote anew is removed, and the store is not touched."""
        self.a_store()
        for ending in ("", "-journal", "-wal", "-shm"):
            Path(f"{self.path}.anew{ending}").write_bytes(b"half of it")
        self.assertFalse(prepare(self.path))
        self.assertEqual([self.path], list(self.directory.iterdir()))
        self.assertEqual(2000, self.count())

    def floors(self) -> list[tuple[int, int]]:
        with closing(connect(self.path)) as connection:
            return connection.execute("SELECT number, revision FROM floors").fetchall()

    def test_no_room_to_repair(self) -> None:
        """Where a damaged store cannot be saved it stays as it is, and the sentence says why."""
        whole = self.a_store()[:-1]
        self.path.write_bytes(whole)
        for problem, text in [
            (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "x"), "No space left on device"),
            (sqlite3.OperationalError("database or disk is full"), "database or disk is full"),
        ]:
            self.patch(files, "salvage", Mock(side_effect=problem))
            said = str(self.assertRaises(Unusable, prepare, self.path))
            self.assertIn(f"what can be read of it cannot be saved: {text}; nothing was changed", said)
            self.assertEqual([self.path], list(self.directory.iterdir()))
            self.assertEqual(whole, self.path.read_bytes())

    def test_private(self) -> None:
        """Specs may contain secrets, so no other user can read any of the files."""
        prepare(self.path)
        with closing(connect(self.path)) as connection:
            self.fill(connection)
            for path in self.directory.iterdir():
                self.assertEqual(0o600, path.stat().st_mode & 0o777, path)

    def test_a_directory(self) -> None:
        """A directory under the file's name is refused."""
        self.path.mkdir()
        self.assertRaises((OSError, Unusable), prepare, self.path)

    def test_not_files_of_ours(self) -> None:
        """A link or a pipe under the name of the file, its log or index is refused, and neither followed nor opened."""
        for ending in ("", "-wal", "-shm"):
            path = Path(f"{self.path}{ending}")
            for lay, problem in [
                (lambda path=path: path.symlink_to("elsewhere"), "it is a symbolic link"),
                (lambda path=path: os.mkfifo(path), "it is not a regular file"),
            ]:
                lay()
                self.assertEqual(problem, self.assertRaises(OSError, prepare, self.path).strerror)
                path.unlink()
        self.assertEqual([], list(self.directory.glob("elsewhere*")))
