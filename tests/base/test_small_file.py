"""A file that the operator names is read, and what took its place is refused without waiting."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from txworker.base.small_file import MAX_BYTES, read_small_file


class SmallFileTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp())

    def refusal(self) -> str:
        return str(self.assertRaises(OSError, read_small_file, self.path).strerror)

    def test_read(self) -> None:
        """A regular file, also by a link, up to the largest."""
        self.path.symlink_to("file")
        for content in (b"", b"x", bytes(MAX_BYTES)):
            self.path.with_name("file").write_bytes(content)
            self.assertEqual(content, read_small_file(self.path))

    def test_refused(self) -> None:
        """A FIFO, a directory, a device without an end, a file without a reasonable one, and nothing at all."""
        self.assertEqual("No such file or directory", self.refusal())
        for make in (os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path)):
            make(self.path)
            self.assertEqual("it is not a regular file", self.refusal())
            os.replace(self.path, self.mktemp())
        self.path.touch()
        os.truncate(self.path, MAX_BYTES + 1)
        self.assertEqual(f"it has more than {MAX_BYTES} bytes", self.refusal())
