"""The handshake with a shim that has jobs."""

from __future__ import annotations

import os
import socket
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from txworker.process import shim_handshake
from txworker.shim import messages
from txworker.shim.messages import Channel

HELLO = {"type": "hello", "protocol": messages.PROTOCOL, "version": "1", "pid": 1, "thread": 1, "jobs": 1, "kept": 0}
EXIT = {"exit_code": 3}
RECORD = {
    "type": "job",
    "job": "a",
    "pid": 2,
    "ticks": 3,
    "started_wall": 4.0,
    "timeout_at": None,
    "last_output": 5.0,
    "reason": None,
    "kill_at": None,
    "lost": [0, 0],
    "discarded": [0, 0],
    "max_output": 0,
    "cgroup": "",
    "exit": EXIT,
    "stdin": None,
}


class HandshakeTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.stack = ExitStack()
        self.addCleanup(self.stack.close)
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.listener = self.stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        fd = os.open(self.directory, os.O_RDONLY)
        self.stack.callback(os.close, fd)
        self.listener.bind(f"/proc/self/fd/{fd}/{messages.SOCKET_NAME}")
        self.listener.listen(1)
        self.pipe = os.pipe()
        for end in self.pipe:
            self.stack.callback(os.close, end)

    def connect(self, *said: tuple[dict[str, Any], list[int]]) -> shim_handshake.Handshake:
        """Connect to a shim that says that, whatever it is told."""

        def say() -> None:
            connection, _ = self.listener.accept()
            channel = Channel(connection)
            for message, descriptors in said:
                channel.send(message, descriptors)
            channels.append(channel)

        channels: list[Channel] = []
        shim = threading.Thread(target=say, daemon=True)
        shim.start()
        reactor: Any = None  # no shim is started
        found = shim_handshake.connect(reactor, self.directory, {}, self.pipe[0], [], "1")
        shim.join(10)
        for held in found.held:
            for pipe in held.pipes:
                self.stack.callback(os.close, pipe)
        self.stack.callback(found.channel.close)
        self.stack.callback(channels[0].close)
        return found

    def test_exit_before_the_answer(self) -> None:
        """A job that exits while a worker connects is told of before the answer; its record says the same."""
        exited = {"type": "exited", "job": "a", "exit": EXIT}
        started = {**RECORD, "exit": None}
        found = self.connect(
            (exited, []),
            (started, [self.pipe[0]]),
            (HELLO, []),
            (RECORD, [self.pipe[0]]),
            ({"type": "ready", "starting": []}, []),
        )
        self.assertEqual([("a", EXIT)], [(held.job_id, held.exit) for held in found.held])

    def test_exit_after_the_record(self) -> None:
        """A job that exits after its record was sent is exited."""
        found = self.connect(
            (HELLO, []),
            ({**RECORD, "exit": None}, []),
            ({"type": "exited", "job": "a", "exit": EXIT}, []),
            ({"type": "ready", "starting": []}, []),
        )
        self.assertEqual([EXIT], [held.exit for held in found.held])
