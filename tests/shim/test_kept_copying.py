"""Copying the output of kept leftovers."""

from __future__ import annotations

import errno
import os
import resource
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from txworker.shim.copying import Copying, KeptCopying
from txworker.shim.held_job import HeldJob
from txworker.shim.spawn_thread import Result


class KeptCopyingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.place = Path(self.mktemp())
        self.place.mkdir()
        self.file = self.place / "id.out"
        self.file.write_bytes(b"before ")
        self.overs: list[Copying] = []
        reading, self.writing = os.pipe()
        os.set_blocking(reading, False)
        self.pipes = {1: reading}
        self.addCleanup(os.close, reading)

    def a_copying(self, most: int = 0) -> KeptCopying:
        request: Any = {"job": "id", "timeout": None, "ahead": 0.0, "max_output": most, "separate_stderr": False}
        request.update(grace=1.0, cgroup=None, quiet=None, terminal=None, feed=False)
        directory = os.open(self.place, os.O_RDONLY)
        copying = KeptCopying(directory, HeldJob(Result(request, 1), dict(self.pipes)), 1, self.overs.append)
        os.close(directory)  # as the loop does when the next worker brings another
        self.addCleanup(copying.close)
        return copying

    def write(self, data: bytes, copying: KeptCopying) -> bytes:
        os.write(self.writing, data)
        copying.ready()
        return self.file.read_bytes() if self.file.exists() else b""

    def test_goes_on(self) -> None:
        """Output is appended until the end of the pipe, which is reported once."""
        copying = self.a_copying()
        self.assertEqual(b"before after", self.write(b"after", copying))
        os.close(self.writing)
        copying.ready()
        self.assertEqual([copying], self.overs)

    def test_cannot_be_closed(self) -> None:
        """A file server that refuses bytes when the file is closed ends nothing, and the output is incomplete."""
        copying = self.a_copying()
        self.write(b"after", copying)
        close = os.close

        def refuse(fd: int) -> None:
            close(fd)
            raise OSError(errno.ENOSPC, "No space left on device")

        self.patch(os, "close", refuse)
        copying.close()
        copying.close()
        self.patch(os, "close", close)
        self.assertEqual([True, False], copying.job.record()["incomplete"])

    def test_ceiling(self) -> None:
        """At the job's ceiling one line says so, and further output is dropped."""
        copying = self.a_copying(10)
        self.write(b"12345", copying)
        expected = b"before 123\n[output beyond 10 bytes was dropped]\n"
        self.assertEqual(expected, self.write(b"6", copying))
        os.close(self.writing)

    def test_ceiling_told_already(self) -> None:
        """If the worker has written that line, it is not written again."""
        self.file.write_bytes(whole := b"before 123\n[output beyond 10 bytes was dropped]\n")
        self.assertEqual(whole, self.write(b"6", self.a_copying(10)))
        os.close(self.writing)

    def test_lost(self) -> None:
        """Bytes that the disk refused are told of where they are missing, once, before the next ones."""
        copying = self.a_copying()
        copying.job.lost[1] = 7
        notice = b"\n[at least 7 bytes of output were lost here: the disk refused them]\n"
        self.write(b"after", copying)
        self.assertEqual(b"before " + notice + b"after and on", self.write(b" and on", copying))
        self.assertEqual([[0, 0], [True, False]], [copying.job.record()[name] for name in ("lost", "incomplete")])
        os.close(self.writing)

    def test_lost_at_the_end(self) -> None:
        """They are told of when nothing comes after them, too."""
        copying = self.a_copying()
        copying.job.lost[1] = 7
        os.close(self.writing)
        copying.ready()
        self.assertIn(b"[at least 7 bytes of output were lost here", self.file.read_bytes())

    def test_still_full(self) -> None:
        """A disk that takes only the beginning of that line gets none of it, and the next bytes are lost as well."""
        copying = self.a_copying()
        copying.job.lost[1] = 7
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_FSIZE, (soft, hard))
        resource.setrlimit(resource.RLIMIT_FSIZE, (len("before ") + 10, hard))
        self.assertEqual(b"before ", self.write(b"after", copying))
        self.assertEqual(12, copying.job.lost[1])
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        notice = b"\n[at least 12 bytes of output were lost here: the disk refused them]\n"
        self.assertEqual(b"before " + notice + b"on", self.write(b"on", copying))
        os.close(self.writing)

    def test_deleted(self) -> None:
        """A file that retention has deleted is not created again; the leftovers do not wait."""
        copying = self.a_copying()
        self.file.unlink()
        self.assertEqual(b"", self.write(b"x", copying))
        self.assertEqual(b"", self.write(b"y", self.a_copying()))
        self.assertFalse(self.file.exists())
        os.close(self.writing)
