"""The files of jobs in the output directory, with real files."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from unittest import mock

from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from tests.support.descriptors import open_descriptors
from txworker.output.output_directory import OutputDirectory


class OutputDirectoryTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.outputs = OutputDirectory(Path(self.mktemp()) / "deep" / "output")

    def test_private(self) -> None:
        """Files have mode 0600 and the directory 0700."""
        self.outputs.create("a", separate_stderr=False)
        path = self.outputs.path("a", stderr=False)
        modes = [stat.S_IMODE(os.stat(name).st_mode) for name in (path, path.parent)]
        self.assertEqual([0o600, 0o700], modes)

    def test_separate_stderr(self) -> None:
        """Descriptor 2 has a file of its own only if that is requested."""
        for separate, expected in [(False, [b"outerr"]), (True, [b"out", b"err"])]:
            job_id = f"job-{separate}"
            output = self.outputs.create(job_id, separate)
            output.write(1, b"out")
            output.write(2, b"err")
            self.assertEqual(6, output.size)
            paths = [self.outputs.path(job_id, stderr) for stderr in (False, True)]
            self.assertEqual(expected, [path.read_bytes() for path in paths if path.exists()])

    def test_recover(self) -> None:
        """Output of a killed worker is counted; missing files are created, empty and with mode 0600."""
        self.outputs.create("a", separate_stderr=True).write(1, b"out")
        self.outputs.path("a", stderr=True).unlink()
        self.assertEqual(3, self.outputs.recover("a", separate_stderr=True))
        self.assertEqual(0, self.outputs.recover("b", separate_stderr=False))
        made = [self.outputs.path("a", stderr=True), self.outputs.path("b", stderr=False)]
        self.assertEqual([b"", b""], [path.read_bytes() for path in made])
        self.assertEqual([0o600, 0o600], [stat.S_IMODE(os.stat(path).st_mode) for path in made])
        self.assertFalse(self.outputs.path("b", stderr=True).exists())

    def test_discard_leaves_nothing(self) -> None:
        """discard() leaves neither a file nor a descriptor."""
        before = open_descriptors()
        self.outputs.create("a", separate_stderr=True).discard()
        self.assertEqual([], os.listdir(self.outputs.path("a", stderr=False).parent))
        self.assertEqual(set(), open_descriptors() - before)

    def test_second_file_refused(self) -> None:
        """If the second file cannot be created, the first is removed."""
        self.outputs.path("a", stderr=True).mkdir()
        self.assertRaises(OSError, self.outputs.create, "a", separate_stderr=True)
        self.assertFalse(self.outputs.path("a", stderr=False).exists())
        self.outputs.check()
        self.assertEqual("", self.outputs.problem)  # only that file


class ProblemTests(SynchronousTestCase):
    """Why no output file can be made, which is known once a start has failed."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.outputs = OutputDirectory(self.directory)

    def test_refused(self) -> None:
        """It is there from the look after the failed start to the one that can make a file again; one line for each."""
        with mock.patch.object(os, "open", side_effect=OSError(errno.EROFS, "Read-only file system")):
            self.outputs.check()
            self.assertEqual("", self.outputs.problem)
            self.assertRaises(OSError, self.outputs.create, "a", separate_stderr=False)
            with capturedLogs() as events:
                self.outputs.check()
                self.outputs.check()
            self.assertEqual(1, len(events))
        self.assertIn("no output file can be made", self.outputs.problem)
        self.assertIn("Read-only file system", self.outputs.problem)
        with capturedLogs() as events:
            self.outputs.check()
            self.outputs.check()
        self.assertEqual((1, ""), (len(events), self.outputs.problem))
        self.assertEqual([], os.listdir(self.directory))

    def test_no_directory(self) -> None:
        """A directory that was replaced by something else is a problem at once."""
        self.directory.rename(f"{self.directory}.old")
        self.directory.touch()
        self.outputs.check()
        self.assertIn("has been deleted or replaced", self.outputs.problem)
        self.directory.unlink()
        self.outputs.check()
        self.assertEqual("", self.outputs.problem)
