"""Whether workers can find the shim's socket by its name. Real sockets in a directory of the test's own."""

from __future__ import annotations

import errno
import os
import shutil
import socket
from pathlib import Path
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from txworker.shim.messages import ENDED_BIT, SOCKET_NAME
from txworker.shim.reachability import PATIENCE_SECONDS, Reachability


class ReachabilityTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.now = 0.0
        self.state = Path(self.mktemp()).absolute()
        self.state.mkdir()
        self.directory = os.open(self.state, os.O_RDONLY | os.O_DIRECTORY)
        self.bind()
        self.reachability = Reachability(self.directory, lambda: self.now)
        self.addCleanup(self.reachability.close)

    def bind(self) -> None:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.addCleanup(listener.close)
        listener.bind(f"/proc/self/fd/{self.directory}/{SOCKET_NAME}")

    def check_lost(self) -> None:
        """Not at once, but after the patience."""
        self.assertFalse(self.reachability.is_lost())
        self.now += PATIENCE_SECONDS - 1
        self.assertFalse(self.reachability.is_lost())
        self.now += 1
        self.assertTrue(self.reachability.is_lost())

    def test_there(self) -> None:
        """A socket whose name stays is reachable, however late."""
        for _ in range(3):
            self.assertFalse(self.reachability.is_lost())
            self.now += 10 * PATIENCE_SECONDS

    def test_directory_deleted(self) -> None:
        """Nothing can connect to a socket whose directory was deleted, though another one has its name."""
        shutil.rmtree(self.state)
        self.state.mkdir()
        self.check_lost()

    def test_replaced(self) -> None:
        """The name leads to another shim's socket."""
        (self.state / SOCKET_NAME).unlink()
        self.bind()
        self.check_lost()

    def test_moved(self) -> None:
        """A directory that was moved can be configured where it is, or be moved back."""
        self.state.rename(self.state.with_name("elsewhere"))
        self.assertFalse(self.reachability.is_lost())
        self.now += 2 * PATIENCE_SECONDS
        self.assertFalse(self.reachability.is_lost())

    def test_disk_does_not_answer(self) -> None:
        """An error of the disk is no proof that the name is gone."""
        with mock.patch.object(os, "stat", side_effect=OSError(errno.EIO, "")):
            self.assertFalse(self.reachability.is_lost())
            self.now += 2 * PATIENCE_SECONDS
            self.assertFalse(self.reachability.is_lost())

    def is_marked(self) -> bool:
        return bool((self.state / SOCKET_NAME).stat().st_mode & ENDED_BIT)

    def test_mark(self) -> None:
        """It is on the socket alone: another one, which has the name now, is not marked, and does not get the mark."""
        before = self.is_marked()
        self.reachability.mark_ended()
        self.assertEqual((False, True), (before, self.is_marked()))
        (self.state / SOCKET_NAME).unlink()
        self.reachability.mark_ended()
        self.bind()
        self.reachability.mark_ended()
        self.assertFalse(self.is_marked())

    def test_gone_for_a_while(self) -> None:
        """What is put back in time is forgotten: the next loss is waited for as long again."""
        name, aside = self.state / SOCKET_NAME, self.state / "aside"
        for _ in range(2):
            name.rename(aside)
            self.assertFalse(self.reachability.is_lost())
            self.now += PATIENCE_SECONDS - 1
            self.assertFalse(self.reachability.is_lost())
            aside.rename(name)
            self.assertFalse(self.reachability.is_lost())
