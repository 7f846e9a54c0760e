"""The files of jobs in the output directory, with real files."""

from __future__ import annotations

import os
import stat
from pathlib import Path

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
