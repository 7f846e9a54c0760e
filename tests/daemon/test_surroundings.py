"""Pidfiles that are stale, and those that are not. Real processes: what /proc says of them is the point."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from txworker.daemon.surroundings import remove_stale_pidfile
from txworker.linux.procfs import ProcessTable


class PidfileTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp())

    worker = 0
    """The pid of the process that has the lease."""

    def removed(self, text: str, written_ago: float = 0.0) -> int:
        self.path.write_text(text)
        written = time.time() - written_ago
        os.utime(self.path, (written, written))
        pid = remove_stale_pidfile(self.path, ProcessTable(), lambda process: process.pid == self.worker)
        self.assertEqual(bool(pid), not self.path.exists())
        return pid

    def test_another_program(self) -> None:
        """A file with the number of a process that is no twistd is removed, whenever that began."""
        with subprocess.Popen(["sleep", "1000"]) as other:
            try:
                for ago in (0.0, 3600.0):
                    self.assertEqual(other.pid, self.removed(f"{other.pid}\n", ago))
            finally:
                other.kill()

    def test_twistd(self) -> None:
        """The file of a twistd that runs is kept; one that was written before that twistd began is removed."""
        words = [sys.executable, "-c", "print(flush=True); input()", "/opt/bin/twistd", "-n"]
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as twistd:
            try:
                assert twistd.stdout is not None
                twistd.stdout.readline()  # during exec, when Popen returns, /proc may show no words yet
                self.assertEqual(0, self.removed(str(twistd.pid)))
                self.assertEqual(twistd.pid, self.removed(str(twistd.pid), written_ago=3600))
            finally:
                twistd.kill()

    def test_clock_set(self) -> None:
        """The file of a worker that has the lease is kept, however the wall clock was set since it was written."""
        self.worker = os.getpid()
        self.assertEqual(0, self.removed(str(self.worker), written_ago=400 * 86_400))

    def test_left_to_twistd(self) -> None:
        """twistd itself handles a number that no process has, what is no number, and a missing file."""
        with subprocess.Popen(["true"]) as ended:
            pass
        for text in (str(ended.pid), "words", ""):
            self.assertEqual(0, self.removed(text))
        self.path.unlink()
        self.assertEqual(0, remove_stale_pidfile(self.path, ProcessTable(), lambda process: process.pid == self.worker))
