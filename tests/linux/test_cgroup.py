"""Cgroups on a made-up directory tree: what is written where, and what is taken away."""

from __future__ import annotations

import os
from pathlib import Path
from unittest.mock import patch

from twisted.trial.unittest import SynchronousTestCase

from txworker.linux.cgroup import Cgroups, JobCgroup, end_elsewhere, end_stale
from txworker.linux.own_cgroup import own_cgroup_path


class CgroupTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.base = Path(self.mktemp())
        (self.base / "name").mkdir(parents=True)
        (self.base / "cgroup.procs").touch()
        (self.base / "name" / "cgroup.kill").touch()

    def a_cgroup(self, *pids: int) -> JobCgroup:
        directory = self.base / "name" / "job"
        directory.mkdir()
        (directory / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids))
        return JobCgroup(str(directory))

    def test_of(self) -> None:
        """A job's cgroup is a directory of its own in the worker's; one that was never made counts as removed."""
        job = Cgroups(self.base, "name").of("job")
        self.assertEqual(str(self.base / "name" / "job"), job.path)
        job.kill()
        self.assertTrue(job.remove())

    def test_remove(self) -> None:
        """An empty one is removed, with the cgroups that the job made in it; another of its name is left alone."""
        job = Cgroups(self.base, "name").of("job")
        (Path(job.path) / "of the job" / "deep").mkdir(parents=True)
        self.assertTrue(job.remove())
        self.assertFalse(Path(job.path).exists())
        Path(job.path).mkdir()
        self.assertTrue(job.remove())
        self.assertTrue(Path(job.path).exists())

    def test_not_empty(self) -> None:
        """One with a process in it stays; here a file stands for the process."""
        job = self.a_cgroup(5)
        self.assertFalse(job.remove())
        self.assertTrue(Path(job.path).exists())

    def test_pids(self) -> None:
        """All processes in it and below; a directory that cannot be read (a threaded cgroup) is skipped."""
        job = self.a_cgroup(5, 6)
        below = Path(job.path) / "below"
        below.mkdir()
        (below / "cgroup.procs").write_text("7\n")
        (below / "threaded").mkdir()
        self.assertEqual([5, 6, 7], sorted(job.pids()))

    def test_kill(self) -> None:
        """One write kills all; a cgroup that has gone is no error."""
        job = self.a_cgroup(5)
        (Path(job.path) / "cgroup.kill").touch()
        job.kill()
        self.assertEqual("1", (Path(job.path) / "cgroup.kill").read_text())
        JobCgroup(str(self.base / "gone")).kill()

    def test_too_old(self) -> None:
        """Without cgroup.kill jobs get no cgroups, and the attempt leaves nothing behind."""
        self.assertRaises(NotImplementedError, Cgroups, self.base, "other")
        self.assertFalse((self.base / "other").exists())

    def test_no_rights(self) -> None:
        """Without the right to move children jobs get none either."""
        with patch.object(os, "access", return_value=False):
            self.assertRaises(PermissionError, Cgroups, self.base, "name")

    def test_stale(self) -> None:
        """What a lost worker left behind is killed and counted once; then the directory is removed."""
        job = self.a_cgroup(5, 6)
        (Path(job.path) / "cgroup.kill").touch()

        def die(seconds: float) -> None:
            self.assertEqual("1", (Path(job.path) / "cgroup.kill").read_text())
            for file in ("cgroup.procs", "cgroup.kill"):
                (Path(job.path) / file).unlink()

        self.assertEqual(2, end_stale(Path(job.path), sleep=die))
        self.assertFalse(Path(job.path).exists())
        self.assertEqual(0, end_stale(Path(job.path)))

    def test_stale_has_an_end(self) -> None:
        """A process that cannot be killed delays the start for a few seconds, not more."""
        job = self.a_cgroup(5)
        times = iter(range(100))
        self.assertEqual(1, end_stale(Path(job.path), lambda: next(times), lambda seconds: None))

    def test_own_is_never_stale(self) -> None:
        """A cgroup that this process is in is left alone."""
        job = self.a_cgroup(os.getpid(), 5)
        (Path(job.path) / "cgroup.kill").touch()
        self.assertEqual(0, end_stale(Path(job.path)))
        self.assertEqual("", (Path(job.path) / "cgroup.kill").read_text())

    def test_elsewhere(self) -> None:
        """Everything of a worker that was elsewhere is ended, or only these jobs; empty cgroups are removed."""
        elsewhere = self.base / "name"
        with patch("txworker.linux.cgroup.end_stale", return_value=1) as end:
            self.assertEqual(1, end_elsewhere(elsewhere, "name", None))
            (elsewhere / "empty").mkdir()
            self.assertEqual(2, end_elsewhere(elsewhere, "name", ["a", "b"]))
        self.assertEqual([elsewhere, elsewhere / "a", elsewhere / "b"], [call.args[0] for call in end.call_args_list])
        self.assertFalse((elsewhere / "empty").exists())

    def test_elsewhere_is_no_cgroup(self) -> None:
        """A directory of another name, or that is no cgroup, is left alone, with the empty directories in it."""
        (self.base / "name" / "cgroup.kill").unlink()
        (self.base / "name" / "empty").mkdir()
        for path, name in ((self.base / "name", "name"), (self.base, "name"), (self.base / "gone", "gone")):
            self.assertEqual(0, end_elsewhere(path, name, None))
        self.assertTrue((self.base / "name" / "empty").exists())

    def test_own_cgroup(self) -> None:
        """Where this process is, seen through the mount, whatever part of the hierarchy is mounted."""
        for own, mount, expected in [
            ("0::/\n", "1 2 0:3 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw", "/sys/fs/cgroup/"),
            (
                "9:pids:/x\n0::/a/b\n",
                "1 2 0:3 / /sys/fs/cgroup/unified rw - cgroup2 c rw",
                "/sys/fs/cgroup/unified/a/b",
            ),
            ("0::/a/b\n", "1 2 0:3 /a /sys/fs/cgroup rw - cgroup2 c rw", "/sys/fs/cgroup/b"),
        ]:
            self.assertEqual(expected, own_cgroup_path(self.proc(own, mount)))

    def test_no_hierarchy(self) -> None:
        """Without cgroup v2, or where it is not mounted, there is none."""
        for own, mount in [
            ("9:pids:/x\n", "1 2 0:3 / /p rw - cgroup2 c rw"),
            ("0::/\n", "1 2 0:3 / /p rw - tmpfs t rw"),
        ]:
            self.assertRaises(FileNotFoundError, own_cgroup_path, self.proc(own, mount))

    def proc(self, own: str, mount: str) -> str:
        """A directory as /proc/self."""
        (self.base / "cgroup").write_text(own)
        (self.base / "mountinfo").write_text(mount)
        return str(self.base)
