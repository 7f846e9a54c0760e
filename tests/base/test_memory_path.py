"""Bytes in memory as a file."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from txworker.base.memory_path import memory_path


class MemoryPathTests(SynchronousTestCase):
    def test_read(self) -> None:
        """The path can be read, again and again, until the block is left."""
        with memory_path(b"key") as name:
            self.assertEqual([b"key", b"key"], [Path(name).read_bytes() for _ in range(2)])
        self.assertFalse(Path(name).exists())
