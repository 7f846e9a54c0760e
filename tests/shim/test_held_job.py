"""Ending a job of the shim, while no worker is there."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from signal import SIGCONT, SIGHUP, SIGKILL, SIGTERM
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.support.descriptors import open_descriptors
from txworker.linux.clock import boot_seconds
from txworker.linux.wait import Exit
from txworker.shim.events import Events
from txworker.shim.held_job import HeldJob, hold
from txworker.shim.spawn_thread import Result

REQUEST: dict[str, Any] = {
    **{"job": "id", "ahead": 0.0, "timeout": None, "quiet": None, "grace": 1.0, "cgroup": None},
    **{"separate_stderr": False, "max_output": 0, "terminal": None, "feed": False},
}


class EndTests(SynchronousTestCase):
    def ended_by(self, **more: Any) -> list[int]:
        """The signals that a job gets when it is ended."""
        signals: list[int] = []
        self.patch(os, "killpg", lambda pid, number: signals.append(number))
        job = HeldJob(Result({**REQUEST, **more}, 77), {})
        job.end("timeout")
        self.assertIsNotNone(job.kill_at)
        return signals

    def test_term(self) -> None:
        """TERM, and CONT for a stopped process; a job with a terminal gets HUP first, because shells ignore TERM."""
        self.assertEqual([SIGTERM, SIGCONT], self.ended_by())
        self.assertEqual([SIGHUP, SIGTERM, SIGCONT], self.ended_by(terminal=[5, 9]))


class LostTests(SynchronousTestCase):
    def test_told_by_a_worker(self) -> None:
        """The next worker learns which bytes no line tells of yet, and that output is missing also when one does."""
        job = HeldJob(Result(REQUEST, 77), {})
        self.assertEqual(([0, 0], [False, False]), (job.record()["lost"], job.record()["incomplete"]))
        job.lost[1] = 7  # by the shim
        job.set_lost(2, 9)
        self.assertEqual(([7, 9], [True, True]), (job.record()["lost"], job.record()["incomplete"]))
        job.set_lost(1, 0)
        job.set_lost(2, 0)
        self.assertEqual(([0, 0], [True, True]), (job.record()["lost"], job.record()["incomplete"]))


class KillTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.cgroup = Path(self.mktemp())
        self.cgroup.mkdir()
        self.kill = self.cgroup / "cgroup.kill"
        self.kill.touch()
        self.signals: list[int] = []
        self.patch(os, "killpg", lambda pid, number: self.signals.append(number))

    def killed(self, exited: bool, **more: Any) -> tuple[list[int], str]:
        """What a job gets when its grace period is over."""
        job = HeldJob(Result({**REQUEST, "cgroup": str(self.cgroup), **more}, 77), {})
        job.kill_at = 0.0
        if exited:
            job.exited(Exit(os.CLD_EXITED, 0, 0.0, 0.0, 0))
        job.kill()
        self.assertIsNone(job.kill_at)
        return self.signals, self.kill.read_text()

    def test_all(self) -> None:
        """KILL goes to the process group and the cgroup, also to what a job that has exited left there."""
        self.assertEqual(([SIGKILL], "1"), self.killed(exited=False))
        self.assertEqual(([SIGKILL, SIGKILL], "1"), self.killed(exited=True))

    def test_keep(self) -> None:
        """Leftovers that are kept are spared, as by a worker: those of the group too once the leader has exited."""
        self.assertEqual(([SIGKILL], ""), self.killed(exited=False, keep=True))
        self.assertEqual(([SIGKILL], ""), self.killed(exited=True, keep=True))


class ExitTests(SynchronousTestCase):
    def test_time(self) -> None:
        """The time of the exit is by the job's own clock, which no step of the wall clock moves."""
        job = HeldJob(Result({**REQUEST, "ahead": 1000.0}, 77), {})
        job.exited(Exit(os.CLD_EXITED, 0, 0.0, 0.0, 0))
        record = job.exit_record()
        assert record is not None
        self.assertTrue(job.started_wall <= record["at"] <= boot_seconds() + 1000.0)


class CgroupTests(SynchronousTestCase):
    """A directory stands for the cgroup: rmdir(2) refuses both while something is in them."""

    def setUp(self) -> None:
        self.cgroup = Path(self.mktemp())
        self.cgroup.mkdir()

    def removed(self, cgroup: Path | None) -> bool:
        """What is told of the cgroup of a job that exits."""
        job = HeldJob(Result({**REQUEST, "cgroup": cgroup and str(cgroup)}, 77), {})
        job.exited(Exit(os.CLD_EXITED, 0, 0.0, 0.0, 0))
        record = job.exit_record()
        assert record is not None
        return bool(record["cgroup_removed"])

    def test_empty(self) -> None:
        """It is removed, and the worker is told."""
        self.assertEqual((True, False), (self.removed(self.cgroup), self.cgroup.exists()))

    def test_not_empty(self) -> None:
        """It stays for the worker to remove when another process is in it."""
        (self.cgroup / "process").touch()
        self.assertEqual((False, True), (self.removed(self.cgroup), self.cgroup.exists()))

    def test_none(self) -> None:
        """A job without one has none that is removed."""
        self.assertFalse(self.removed(None))


class HoldTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.killed: list[int] = []
        self.patch(os, "killpg", lambda pid, number: self.killed.append(number))
        self.before = open_descriptors()

    def refused(self, names: list[str], descriptors: list[int], **more: Any) -> None:
        """The job is killed before these are closed, and all of them are closed."""
        close = os.close
        self.killed.clear()

        def noted(fd: int) -> None:
            self.assertTrue(self.killed or fd == descriptors[0], "it takes that for the end of its input")
            close(fd)

        self.patch(os, "close", noted)
        result = Result({**REQUEST, **more}, 77)
        result.names = names
        with closing(RefusingEvents()) as events:
            self.assertRaises(OSError, hold, result, descriptors, events, self.fail)
        self.patch(os, "close", close)
        self.assertEqual((set(), [SIGKILL]), (open_descriptors() - self.before, self.killed))

    def test_cannot_be_watched(self) -> None:
        """A job whose input or terminal cannot be watched is killed, because it would wait for ever."""
        self.refused(["file", "in", "out"], [os.memfd_create("file"), os.dup(0), os.dup(0)], feed=True)
        ends = [os.dup(0), os.dup(0), *os.pipe()]
        self.refused(["master", "slave", "out", "printed"], ends, terminal=[5, 9])

    def test_missing(self) -> None:
        """The same when not all of its descriptors have come."""
        self.refused(["out", "in"], [os.dup(0)])


class RefusingEvents(Events):
    """An epoll set that takes no more descriptors."""

    def watch(self, fd: int, ready: Callable[[], None]) -> None:
        raise OSError(errno.ENOSPC, "no more watches")

    watch_writer = watch
