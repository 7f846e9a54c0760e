"""A shim that was stopped by a signal is told of."""

from __future__ import annotations

import errno
from contextlib import ExitStack
from typing import cast
from unittest import mock

from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from txworker.daemon.shim_watch import ShimWatch
from txworker.linux.procfs import ProcessTable
from txworker.worker.readiness import SHIM, Readiness


class FakeShim:
    pid = 7
    alive = True
    listen_refused = False

    def listen(self, descriptors: object) -> None:
        """Not asked here."""


class FakeTable:
    stopped: tuple[int, ...] = ()

    def is_stopped(self, pid: int) -> bool:
        return pid in self.stopped


class ShimWatchTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.shim, self.table = FakeShim(), FakeTable()
        self.readiness = Readiness(lambda ready: None)
        self.watch = ShimWatch(self.shim, self.readiness, cast(ProcessTable, self.table))
        stack = ExitStack()
        self.addCleanup(stack.close)
        self.events = stack.enter_context(capturedLogs())

    def test_stopped(self) -> None:
        """It is told once, with what to do, and the worker is not ready until the shim goes on."""
        self.watch.look()
        self.assertEqual({}, self.readiness.reasons)
        self.table.stopped = (7,)
        self.watch.look()
        self.watch.look()
        self.assertIn("(pid 7) was stopped by a signal: no job starts or ends", self.readiness.reasons[SHIM])
        self.assertIn("`kill -CONT 7`", self.readiness.reasons[SHIM])
        self.assertEqual(1, len(self.events))
        self.table.stopped = ()
        self.watch.look()
        self.assertEqual(({}, 2), (self.readiness.reasons, len(self.events)))

    def test_no_descriptors(self) -> None:
        """While no descriptor is free it is not known, and nothing changes."""
        self.table.stopped = (7,)
        self.watch.look()
        before = self.readiness.reasons
        with mock.patch.object(self.table, "is_stopped", side_effect=OSError(errno.EMFILE, "Too many open files")):
            self.watch.look()
        self.assertEqual((before, 1), (self.readiness.reasons, len(self.events)))

    def test_killed_while_stopped(self) -> None:
        """When it has ended, that is what is in the way, until the next one runs."""
        self.table.stopped = (7,)
        self.watch.look()
        self.shim.alive = False
        self.readiness.begin(SHIM, "it has ended")
        self.watch.look()
        self.assertEqual({SHIM: "it has ended"}, self.readiness.reasons)
        self.shim.pid, self.shim.alive = 8, True
        self.readiness.end(SHIM)
        self.watch.look()
        self.assertEqual({}, self.readiness.reasons)
