"""One worker at a time has a state directory, and the next one learns about the last."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.support.descriptors import open_descriptors
from tests.support.process_table import FakeProcessTable
from txworker.linux.clock import TICKS_PER_SECOND, boot_ticks
from txworker.linux.procfs import Process
from txworker.store import lease
from txworker.store.errors import InUse
from txworker.store.lease import Clocks, Lease, has_lease

HOLD = """
import sys, time
from pathlib import Path
from txworker.store.lease import Lease
held = Lease(Path(sys.argv[1]))
held.beat()
print("held", flush=True)
time.sleep(300)
"""


@contextmanager
def holder(directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that has the lease."""
    with subprocess.Popen([sys.executable, "-c", HOLD, str(directory)], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"held\n"
            yield process
        finally:
            process.kill()


class LeaseTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.file = self.directory / "worker.lock"

    def a_lease(self) -> Lease:
        """Of a worker that has taken over."""
        held = Lease(self.directory)
        self.addCleanup(lambda: held.close())
        held.beat()
        return held

    def test_name_and_instance(self) -> None:
        """The name is made at the first start and stays; each start has the next number."""
        names = []
        for number, host in enumerate(("build 1", "moved", "moved"), 1):
            held = Lease(self.directory, host=lambda host=host: host)  # type: ignore[misc]
            names.append(held.name)
            self.assertEqual(number, held.instance)
            held.beat()
            held.close(in_order=number == 1)
        self.assertEqual([f"build-1-{held.id[:6]}"] * 3, names)

    def test_has_lease(self) -> None:
        """A worker has the lease for a few seconds after each beat, in the same boot, whatever the wall clock says."""
        own = Process(os.getpid(), 1, 1, 990 * TICKS_PER_SECOND, False)
        now = [1000.0]
        clocks = Clocks(since_boot=lambda: now[0])
        self.assertFalse(has_lease(self.directory, own, clocks))
        held = Lease(self.directory, clocks)
        self.addCleanup(held.close)
        held.beat()
        now[0] += 4.0
        self.assertTrue(has_lease(self.directory, own, replace(clocks, wall=lambda: 0.0)))
        self.assertFalse(has_lease(self.directory, replace(own, pid=own.pid + 1), clocks))
        self.assertFalse(has_lease(self.directory, replace(own, start=own.start + 11 * TICKS_PER_SECOND), clocks))
        self.assertFalse(has_lease(self.directory, own, replace(clocks, boot_id=lambda: "another")))
        now[0] += 10.0
        self.assertFalse(has_lease(self.directory, own, clocks))

    def test_configured_name(self) -> None:
        """A name that is configured is the worker's for as long as it is configured."""
        own = self.a_lease()
        own.close()
        configured = Lease(self.directory, name="w-1")
        configured.beat()
        configured.close()
        self.assertEqual(("w-1", own.name), (configured.name, self.a_lease().name))

    def test_older_version(self) -> None:
        """After a version that knew neither the worker has a name, and the numbers begin again."""
        first = self.a_lease()
        first.close()
        life = json.loads(self.file.read_bytes())
        del life["name"], life["instance"]
        self.file.write_text(json.dumps(life))
        held = self.a_lease()
        self.assertEqual((first.name, 1), (held.name, held.instance))

    def test_first(self) -> None:
        """The first worker in a directory has no predecessor, and writes a heartbeat."""
        held = self.a_lease()
        self.assertEqual((None, False), (held.before, held.rebooted))
        life = json.loads(self.file.read_bytes())
        self.assertEqual((os.getpid(), held.boot_id, held.id), (life["pid"], life["boot_id"], life["id"]))
        self.assertEqual(0o600, self.file.stat().st_mode & 0o777)

    def test_ends_before_takeover(self) -> None:
        """
        A worker that ends before it has taken over changes nothing: the next one knows the worker that had the jobs,
        how that ended, and that the machine was restarted since.
        """
        first = Lease(self.directory, Clocks(boot_id=lambda: "another"))
        first.set_jobs("/here", None)
        first.close(in_order=True)
        written = self.file.read_bytes()
        Lease(self.directory).close()
        self.assertEqual(written, self.file.read_bytes())
        self.assertTrue(self.a_lease().rebooted)

    def test_first_ends_before_takeover(self) -> None:
        """Then the next worker is the first one, and misses no store."""
        Lease(self.directory).close()
        self.assertIsNone(self.a_lease().before)

    def test_second(self) -> None:
        """A second worker is refused in a sentence with the directory and the pid of the first."""
        with holder(self.directory) as process:
            for _ in range(2):
                refusal = self.assertRaises(InUse, Lease, self.directory)
                self.assertIn(f"{self.directory} is in use by the worker with pid {process.pid};", str(refusal))

    def test_refused_leaves_no_descriptor(self) -> None:
        """A refused or failed attempt leaves no descriptor open."""
        before = open_descriptors()
        with holder(self.directory):
            self.assertRaises(InUse, Lease, self.directory)
        self.assertRaises(OSError, Lease, self.directory, Clocks(boot_id=self.refuse))
        self.assertEqual(set(), open_descriptors() - before)

    def refuse(self) -> str:
        raise OSError(28, "No space left on device")

    def test_second_beside_a_starting_one(self) -> None:
        """The refusal names no worker that has ended, though the file does until the new one has taken over."""
        with holder(self.directory) as process:
            process.kill()
            process.wait()
            starting = Lease(self.directory)
            self.addCleanup(starting.close)
            self.assertIn("is in use by another worker;", str(self.assertRaises(InUse, Lease, self.directory)))

    def test_dead_holder(self) -> None:
        """A dead worker blocks nothing. The next one knows its pid and when it was last alive."""
        with holder(self.directory) as process:
            process.kill()
            process.wait()
            held = self.a_lease()
        assert held.before is not None
        self.assertEqual((process.pid, held.boot_id), (held.before.pid, held.boot_id))
        self.assertFalse(held.rebooted)
        self.assertLessEqual(held.before.alive_ticks, boot_ticks())

    def test_id_is_the_directorys(self) -> None:
        """Every worker of a directory has the same id, so that the next one finds what the last one left."""
        first = self.a_lease()
        first.close()
        self.assertEqual(first.id, self.a_lease().id)

    def test_beat(self) -> None:
        """A beat is seen by the next worker, needs no room on the disk, and leaves `before` unchanged."""
        now = [1_999_999_998.5]
        held = Lease(self.directory, Clocks(wall=lambda: now[0]))
        self.addCleanup(held.close)
        held.beat()
        size, before = self.file.stat().st_size, held.before
        now[0] += 1
        held.beat()
        self.assertEqual(1_999_999_999.5, json.loads(self.file.read_bytes())["alive_at"])
        self.assertEqual((size, before), (self.file.stat().st_size, held.before))

    def test_rebooted(self) -> None:
        """A reboot is recognized by the boot id."""
        first = self.a_lease()
        first.close()
        (life,) = [replace(lease.Heartbeat(**json.loads(self.file.read_bytes())), boot_id="another")]
        self.file.write_text(json.dumps(asdict(life)).ljust(255) + "\n")
        self.assertTrue(self.a_lease().rebooted)

    def test_cgroups(self) -> None:
        """The next worker knows the cgroups; if it records none, the one after it still knows them."""
        first = Lease(self.directory)
        first.set_jobs("/here", None)
        first.close()
        for _ in range(2):
            held = Lease(self.directory)
            held.beat()
            held.close()
            assert held.before is not None
            self.assertEqual("/here", held.before.cgroups)
        last = self.a_lease()
        last.set_jobs("/" + 2000 * "x", None)
        self.assertEqual(("", last.id), (json.loads(self.file.read_bytes())["cgroups"], last.id))

    def a_copy(self, table: FakeProcessTable, shim: int = 5, **changed: object) -> Path:
        """A copy of a directory whose jobs are children of `shim`; `changed`: what the file of the copy says else."""
        original, copy = Path(self.mktemp()), Path(self.mktemp())
        for directory in (original, copy):
            directory.mkdir()
        held = Lease(original)
        held.set_jobs("", table.add(shim))
        held.close()
        life = {**json.loads((original / "worker.lock").read_bytes()), **changed}
        (copy / "worker.lock").write_text(json.dumps(life))
        return copy

    def test_copy(self) -> None:
        """A copy of a directory whose jobs have their shim is refused, each time; with the shim gone, it is not."""
        table = FakeProcessTable()
        copy = self.a_copy(table)
        for _ in range(2):
            refusal = str(self.assertRaises(InUse, Lease, copy, processes=table))
            self.assertIn(f"{copy} is a copy of a directory whose jobs may still run", refusal)
            self.assertIn("because their parent (pid 5) runs", refusal)
        table.exits(5, zombie=True)
        Lease(copy, processes=table).close()

    def test_copy_of_other_processes(self) -> None:
        """A pid that is another process's now, and one of another boot or of an unknown version, refuse nothing."""
        table = FakeProcessTable()
        for changed in ({"parent_start": 499}, {"boot_id": "another"}, {"parent": 0}):
            Lease(self.a_copy(table, **changed), processes=table).close()

    def test_renamed(self) -> None:
        """A directory that was renamed is the same, with its jobs and their shim."""
        table = FakeProcessTable()
        first = self.a_lease()
        first.set_jobs("", table.add(5))
        first.close()
        moved = self.directory.rename(self.mktemp())
        for _ in range(2):  # the worker after it knows the shim, too
            held = Lease(moved, processes=table)
            held.beat()
            held.close()
        life = json.loads((moved / "worker.lock").read_bytes())
        self.assertEqual((5, 500), (life["parent"], life["parent_start"]))

    def test_other_versions(self) -> None:
        """An older version wrote fewer fields and bytes; a newer one may write more."""
        life = {"id": "theirs", "pid": 1, "boot_id": "x", "alive_at": 1.5, "alive_ticks": 2}
        for text in (json.dumps(life).ljust(255), json.dumps({**life, "cgroups": "", "more": [1]})):
            self.file.write_text(text + "\n")
            held = Lease(self.directory)
            held.close()
            self.assertEqual(lease.Heartbeat("theirs", 1, "x", 1.5, 2, ""), held.before)

    def test_unreadable(self) -> None:
        """An unreadable file counts as no earlier worker."""
        for data in (b"", b"{", b"[1]", b'{"pid": 1}', os.urandom(256)):
            self.file.write_bytes(data)
            held = Lease(self.directory)
            held.close()
            self.assertEqual((None, False), (held.before, held.rebooted))

    def test_not_a_file_of_ours(self) -> None:
        """A link, a pipe or a file with two names is refused, and the target of a link is not created."""
        elsewhere, other = self.directory / "elsewhere", self.directory / "other"
        other.touch()
        for lay, problem in [
            (lambda: self.file.symlink_to("elsewhere"), "it is a symbolic link"),
            (lambda: os.mkfifo(self.file), "it is not a regular file"),
            (lambda: self.file.hardlink_to(other), "it has 2 names (hard links)"),
        ]:
            lay()
            self.assertEqual(problem, self.assertRaises(OSError, Lease, self.directory).strerror)
            self.file.unlink()
        self.assertFalse(elsewhere.exists())
