"""The shim's socket is made again when its name is gone. Real sockets in a directory of the test's own."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import socket
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from txworker.process.shim_socket import ShimSocket, SocketWatch
from txworker.shim.messages import SOCKET_NAME


class FakeShim:
    """It listens wherever it is told to; `told` counts how often."""

    pid = 7
    alive = True
    told = 0
    listen_refused = False
    listener: socket.socket

    def listen(self, descriptors: Sequence[int]) -> None:
        self.told += 1
        self.listener.close()
        self.listener = socket.socket(fileno=os.dup(descriptors[0]))
        self.listener.listen()


class SocketWatchTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.state = Path(self.mktemp()).absolute()
        self.state.mkdir()
        self.shim = FakeShim()
        self.shim.listener = self.bound()
        self.addCleanup(lambda: self.shim.listener.close())
        self.in_place = True
        self.watch = SocketWatch(self.state, self.shim, lambda: self.in_place)

    def bound(self) -> socket.socket:
        with contextlib.closing(ShimSocket(self.state)) as shim_socket:
            listener = shim_socket.bound()
        listener.listen()
        return listener

    def reached(self) -> bool:
        """Whether a worker that connects by the name is connected to the shim."""
        with contextlib.closing(ShimSocket(self.state)) as shim_socket:
            connection = shim_socket.connected()
        if connection is None:
            return False
        connection.close()
        self.shim.listener.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            self.shim.listener.accept()[0].close()
            return True
        return False

    def test_nothing_happened(self) -> None:
        """A socket that is there is left alone; another shim's, which replaced one that ended, too."""
        self.watch.look()
        self.watch.look()
        self.shim.listener.close()
        self.shim.listener, self.shim.pid = self.bound(), 8
        self.watch.look()
        self.assertEqual((0, True), (self.shim.told, self.reached()))

    def test_unknown(self) -> None:
        """While no descriptor is free, or the disk fails, nothing is known of the socket, and nothing is said of it."""
        self.watch.look()
        for call, number in (("open", errno.EMFILE), ("open", errno.EIO), ("stat", errno.EIO)):
            with (
                mock.patch(f"os.{call}", side_effect=OSError(number, os.strerror(number))),
                capturedLogs() as events,
            ):
                self.watch.look()
            self.assertEqual([], events)
        self.assertEqual(0, self.shim.told)
        self.remove()
        self.watch.look()
        self.assertEqual((1, True), (self.shim.told, self.reached()))

    def test_gone(self) -> None:
        """It is made again, once, and is the worker's alone; no descriptor is left open."""
        for deed in (self.remove, self.replace, self.remove_directory):
            self.watch.look()
            deed()
            self.watch.look()
            self.watch.look()
            self.assertTrue(self.reached(), deed.__name__)
            self.assertEqual(0o600, (self.state / SOCKET_NAME).stat().st_mode & 0o777)
        self.assertEqual(3, self.shim.told)
        self.assertEqual([], self.open_directories())

    def test_refused(self) -> None:
        """As long as the shim has no descriptors for it, it is made again at each look; that is told once."""
        self.watch.look()
        self.remove()
        self.watch.look()
        self.shim.listen_refused = True
        with capturedLogs() as events:
            self.watch.look()
            self.watch.look()
        self.shim.listen_refused = False
        self.watch.look()
        self.assertEqual((3, True), (self.shim.told, self.reached()))
        (event,) = events
        self.assertIn("has no descriptors free", formatEvent(event))

    def test_not_sent(self) -> None:
        """Where the worker has no descriptors to send it, it is made again at the next look."""
        self.remove()
        with mock.patch.object(self.shim, "listen", side_effect=OSError(errno.EMFILE, "Too many open files")):
            self.watch.look()
        self.watch.look()
        self.assertTrue(self.reached())

    def test_gone_before_the_first_look(self) -> None:
        """Even if nothing is known of the socket that was there."""
        self.remove()
        self.watch.look()
        self.assertTrue(self.reached())

    def open_directories(self) -> list[str]:
        links = []
        for name in os.listdir("/proc/self/fd"):
            with contextlib.suppress(FileNotFoundError):  # of this very listing
                links.append(os.readlink(f"/proc/self/fd/{name}"))
        return [link for link in links if link.startswith(str(self.state))]

    def test_not_ours(self) -> None:
        """In a directory that is not the worker's no socket is made, and none for a shim that has ended."""
        self.remove()
        self.in_place = False
        self.watch.look()
        self.in_place, self.shim.alive = True, False
        self.watch.look()
        self.assertEqual((0, []), (self.shim.told, os.listdir(self.state)))

    def remove(self) -> None:
        (self.state / SOCKET_NAME).unlink()

    def replace(self) -> None:
        self.remove()
        (self.state / SOCKET_NAME).write_text("another file")

    def remove_directory(self) -> None:
        shutil.rmtree(self.state)
        self.state.mkdir()
