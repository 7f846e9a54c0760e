"""What connects a job with the shim. Real pipes, terminals and files in memory; no process."""

from __future__ import annotations

import errno
import os
from contextlib import closing
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.support.descriptors import open_descriptors
from txworker.linux.memfd import memory_file
from txworker.shim.ends import Ends

FULL = 65536
"""The bytes that a pipe holds (pipe(7))."""


class EndsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.before = open_descriptors()
        self.addCleanup(lambda: self.assertEqual(set(), open_descriptors() - self.before))

    def ends(self, data: bytes = b"", **more: Any) -> Ends:
        """Those of a request with these fields, and with that stdin."""
        request: dict[str, Any] = {"stdin": bool(data), "feed": False, "separate_stderr": False, "terminal": None}
        given = []
        if data:
            with memory_file(data, "stdin") as file:
                given = [os.dup(file)]
        ends = Ends({**request, "user": None, **more}, given)
        self.addCleanup(ends.close)
        return ends

    def passes(self, writing: int, reading: int) -> bool:
        os.write(writing, b"x")
        return os.read(reading, 9) == b"x"

    def test_output(self) -> None:
        """One pipe for stdout and stderr, or one for each; the worker gets the read ends, stdout's first."""
        with closing(self.ends()) as ends:
            ends.make()
            self.assertEqual(([1, 2], [ends.kept["out"]]), (sorted(ends.child), ends.outputs))
            self.assertTrue(
                self.passes(ends.child[1], ends.kept["out"]) and self.passes(ends.child[2], ends.kept["out"])
            )
        with closing(self.ends(separate_stderr=True)) as ends:
            ends.make()
            self.assertEqual([ends.kept["out"], ends.kept["err"]], ends.outputs)
            self.assertTrue(
                self.passes(ends.child[1], ends.kept["out"]) and self.passes(ends.child[2], ends.kept["err"])
            )

    def test_stdin_that_fits(self) -> None:
        """It is in the pipe before the process begins, and nothing waits."""
        with closing(self.ends(b"input")) as ends:
            ends.make()
            self.assertEqual((b"input", 5, False), (os.read(ends.child[0], 99), ends.fed, ends.waits))

    def test_long_stdin(self) -> None:
        """The pipe holds what fits into it; the rest waits."""
        with closing(self.ends(bytes(FULL + 1))) as ends:
            ends.make()
            self.assertTrue(ends.waits)
            self.assertEqual(ends.fed, len(os.read(ends.child[0], 2 * FULL)))

    def test_feed(self) -> None:
        """A job that is fed has an input that is open and empty."""
        with closing(self.ends(feed=True)) as ends:
            ends.make()
            self.assertEqual((0, False), (ends.fed, ends.waits))
            self.assertTrue(self.passes(ends.kept["in"], ends.child[0]))

    def test_file_that_did_not_arrive(self) -> None:
        """A job with a stdin is not started without it: the kernel drops descriptors that find no free number."""
        with closing(self.ends(stdin=True)) as ends:
            error = self.assertRaises(OSError, ends.make)
            self.assertEqual(errno.EMFILE, error.errno)

    def test_terminal(self) -> None:
        """A terminal is all three of the job's; the loop gets both sides, and a pipe for what it prints."""
        with closing(self.ends(terminal=[5, 9], feed=True)) as ends:
            ends.make()
            self.assertEqual({0, 1, 2}, set(ends.child))
            self.assertEqual(1, len(set(ends.child.values())))
            self.assertEqual((9, 5), os.get_terminal_size(ends.kept["master"]))
            self.assertEqual({"out", "printed", "master", "slave", "in"}, set(ends.kept))
            self.assertEqual([ends.kept["out"]], ends.outputs)
