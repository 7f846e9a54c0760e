"""What is enforced while no worker is there: unattended_seconds; quietTimeout, of what the worker read, too."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from txworker.linux.wait import Exit
from txworker.shim import unattended
from txworker.shim.events import Events
from txworker.shim.held_job import HeldJob
from txworker.shim.intermediate import IntermediatePipes
from txworker.shim.spawn_thread import Result
from txworker.shim.unattended import QUIET, UNATTENDED, Unattended

QUIET_SECONDS = 10.0


class UnattendedTests(SynchronousTestCase):
    """Jobs without quietTimeout, on a clock that the test sets."""

    quiet: float | None = None

    def setUp(self) -> None:
        self.place = Path(self.mktemp())
        self.place.mkdir()
        self.file = self.place / "id.out"
        self.directory = os.open(self.place, os.O_RDONLY)
        self.addCleanup(os.close, self.directory)
        self.now = 1000.0
        self.patch(time, "monotonic", lambda: self.now)
        self.patch(os, "killpg", lambda pid, number: None)
        self.exit: Exit | None = None
        self.patch(unattended, "exit_of", lambda pid: self.exit)
        self.events = Events()
        self.addCleanup(self.events.close)
        self.jobs: dict[str, HeldJob] = {}
        self.unattended = Unattended(self.events, self.jobs, IntermediatePipes())

    def a_job(self, most: int = 0, separate: bool = False) -> HeldJob:
        request: dict[str, Any] = {
            **{"job": "id", "ahead": 0.0, "timeout": None, "quiet": self.quiet, "grace": 1.0, "cgroup": None},
            **{"separate_stderr": separate, "max_output": most, "terminal": None, "feed": False},
        }
        self.jobs["id"] = job = HeldJob(Result(request, 77), {})
        return job


class SecondsTests(UnattendedTests):
    def reason(self, after_seconds: float) -> str | None:
        """Why the job is ended, so long after a worker has gone."""
        self.unattended.begin(self.directory, 10.0)
        self.now += after_seconds
        self.unattended.enforce()
        return self.jobs["id"].reason

    def test_failing_workers(self) -> None:
        """A worker that fails before it serves is none, so the time counts on; no job is ended while it tries."""
        self.a_job()
        for _ in range(2):
            self.assertIsNone(self.reason(2.0))
            self.unattended.end()
            self.now += 3.0
        self.assertEqual(UNATTENDED, self.reason(0.1))

    def test_exited(self) -> None:
        """A job that has exited by itself is not ended, though the shim was stopped and hears of it only next."""
        self.a_job()
        self.exit = Exit(os.CLD_EXITED, 0, 0.0, 0.0, 0)
        self.assertIsNone(self.reason(11.0))

    def test_slow_start(self) -> None:
        """No job is ended while a worker is connected, however long it takes until it serves."""
        self.a_job()
        self.assertIsNone(self.reason(2.0))
        self.unattended.end()
        self.now += 100.0
        self.unattended.enforce()
        self.unattended.worker_serves()
        self.assertIsNone(self.reason(9.9))


class QuietTests(UnattendedTests):
    quiet = QUIET_SECONDS

    def ended(self, after_seconds: float) -> bool:
        """Whether the job is ended for its silence, so long after the worker has gone."""
        self.unattended.begin(self.directory, 0.0)
        self.now += after_seconds
        self.unattended.enforce()
        return self.jobs["id"].reason == QUIET

    def next_worker(self, seconds: float) -> None:
        """A worker comes, stays for so long and goes."""
        self.unattended.end()
        self.now += seconds

    def test_printed_to_the_worker(self) -> None:
        """What a worker has recorded may be recent, so the silence counts from the moment when the worker goes."""
        job = self.a_job()
        self.now += 60.0
        self.file.write_bytes(b"recorded by the worker")
        self.assertFalse(self.ended(QUIET_SECONDS - 0.1))
        self.assertEqual(1060.0, job.last_output)  # which the next worker is told
        self.now += 0.2
        self.unattended.enforce()
        self.assertEqual(QUIET, job.reason)

    def test_stderr(self) -> None:
        """Separate stderr is output, too."""
        self.a_job(separate=True)
        self.now += 60.0
        (self.place / "id.err").write_bytes(b"recorded by the worker")
        self.assertFalse(self.ended(1.0))

    def test_silent(self) -> None:
        """A job that has printed nothing to a worker gains no time by the worker's end."""
        self.a_job()
        self.now += 6.0
        self.assertFalse(self.ended(3.0))
        self.next_worker(0.5)
        self.assertTrue(self.ended(0.6))

    def test_silent_since(self) -> None:
        """Nor does one that has printed to an earlier worker only."""
        self.a_job()
        self.file.write_bytes(b"recorded by the first worker")
        self.assertFalse(self.ended(5.0))
        self.next_worker(4.0)
        self.assertTrue(self.ended(1.1))

    def test_unknown(self) -> None:
        """A file that cannot show further output tells nothing: it is at its ceiling, or was not readable then."""
        self.a_job(most=5)
        self.file.write_bytes(b"12345")
        for _ in range(3):
            self.assertFalse(self.ended(6.0))
            self.next_worker(6.0)

    def test_directory_removed(self) -> None:
        """A directory that was removed tells nothing."""
        self.a_job()
        self.place.rmdir()
        self.now += 60.0
        self.assertFalse(self.ended(1.0))


class WatchTests(UnattendedTests):
    def test_tried_again(self) -> None:
        """A job whose pipe cannot be watched does not keep others from being copied; it is tried again soon."""
        ends = [os.pipe() for _ in range(2)]
        for number, (reading, writing) in enumerate(ends):
            os.set_blocking(reading, False)
            self.addCleanup(os.close, reading)
            os.write(writing, b"x")
            os.close(writing)
            job = self.a_job()
            job.id = str(number)
            job.pipes = {1: reading}
            self.jobs[job.id] = job
        del self.jobs["id"]
        real = self.events.watch

        def refuse(fd: int, ready: Callable[[], None]) -> None:
            if fd == ends[0][0]:
                raise OSError(errno.ENOMEM, "no memory")
            real(fd, ready)

        self.patch(self.events, "watch", refuse)
        self.unattended.begin(self.directory, 0.0)
        self.assertIsNotNone(self.unattended.enforce())
        self.events.wait(0)
        self.assertEqual((False, b"x"), ((self.place / "0.out").exists(), (self.place / "1.out").read_bytes()))
        self.patch(self.events, "watch", real)
        self.unattended.enforce()
        self.events.wait(0)
        self.assertEqual((b"x", None), ((self.place / "0.out").read_bytes(), self.unattended.enforce()))
        self.unattended.end()
