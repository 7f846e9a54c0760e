"""Whom the census need not read again, in a time that the test moves."""

from __future__ import annotations

import os

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from txworker.leftovers import strangers as room
from txworker.leftovers.strangers import APART_SECONDS, KNOWN_SECONDS, Strangers
from txworker.linux.procfs import Process


class StrangersTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.exited: set[int] = set()
        self.patch(os, "pidfd_open", lambda pid: pid)
        self.patch(os, "close", lambda pidfd: None)
        self.patch(room, "_has_exited", lambda pidfd: pidfd in self.exited)
        self.strangers = Strangers(self.clock)
        self.one = Process(7, os.getpid(), 7, 500, False)

    def see_twice(self) -> None:
        self.strangers.saw(self.one)
        self.clock.advance(APART_SECONDS)
        self.strangers.saw(self.one)

    def test_seen_twice(self) -> None:
        """Known is who carried nothing in two looks that were some time apart."""
        self.strangers.saw(self.one)
        self.strangers.saw(self.one)
        self.assertEqual((None, False), (self.strangers.get(7), 7 in self.strangers))
        self.clock.advance(APART_SECONDS)
        self.strangers.saw(self.one)
        self.assertEqual((self.one, True), (self.strangers.get(7), 7 in self.strangers))

    def test_another_with_its_number(self) -> None:
        """Is not known for what the first one was."""
        self.strangers.saw(self.one)
        self.clock.advance(APART_SECONDS)
        self.strangers.saw(Process(7, os.getpid(), 7, 501, False))
        self.assertIsNone(self.strangers.get(7))

    def test_read_anew(self) -> None:
        """After a while it is read anew, for it may have exec'ed; then it is known again."""
        self.see_twice()
        self.clock.advance(KNOWN_SECONDS + 0.1)
        self.assertEqual((None, False), (self.strangers.get(7), 7 in self.strangers))
        self.strangers.saw(self.one)
        self.assertEqual(self.one, self.strangers.get(7))

    def test_exited(self) -> None:
        """Who has exited is known no more; nor who is forgotten."""
        self.see_twice()
        self.exited.add(7)
        self.assertEqual((None, False), (self.strangers.get(7), 7 in self.strangers))
        self.exited.clear()
        self.strangers.saw(self.one)
        self.strangers.forget(7)
        self.strangers.saw(self.one)
        self.assertIsNone(self.strangers.get(7))


class ExitTests(SynchronousTestCase):
    def test_has_exited(self) -> None:
        """A pidfd tells, whoever waits for the process; and every pidfd is closed."""
        pid = os.posix_spawn("/bin/sleep", ["sleep", "100"], {})
        before = os.listdir("/proc/self/fd")
        clock = Clock()
        strangers = Strangers(clock)
        process = Process(pid, os.getpid(), pid, 500, False)
        strangers.saw(process)
        clock.advance(APART_SECONDS)
        strangers.saw(process)
        self.assertEqual(process, strangers.get(pid))
        os.kill(pid, 9)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        self.assertIsNone(strangers.get(pid))
        self.assertEqual(pid, os.waitpid(pid, 0)[0])
        self.assertEqual(before, os.listdir("/proc/self/fd"))
