"""Warnings about how the worker is reached, as configured."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from unittest import mock

from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from txworker.config import Scheduler
from txworker.daemon.doors import registration, warn_of_readers


class FakeServer:
    """Serves nothing, at that host."""

    def __init__(self, host: str) -> None:
        self.host = host


class RegistrationTests(SynchronousTestCase):
    def test_no_address_to_dial(self) -> None:
        """A warning, when the scheduler would be told "every address of this machine"."""
        for host, advertised, warned in [
            ("0.0.0.0", "", 1),
            ("::", "", 1),
            ("0.0.0.0", "a:1", 0),
            ("127.0.0.1", "", 0),
        ]:
            server: Any = FakeServer(host)
            with capturedLogs() as events:
                registration(Scheduler(addr="127.0.0.1:9", advertise_addr=advertised), server, None)
            self.assertEqual(warned, sum("advertise_addr is not given" in event["log_format"] for event in events))


class KeyTests(SynchronousTestCase):
    def test_others_can_read_it(self) -> None:
        """
        A warning names the file and its mode. A group may read the key where the worker reads it only as a member.
        """
        key = Path("server.key")
        key.touch()
        ours = os.geteuid()
        for mode, uid, warned in [
            (0o600, ours, False),
            (0o400, ours, False),
            (0o640, ours, True),
            (0o604, ours, True),
            (0o644, ours, True),
            (0o640, ours + 1000, ours != 0),
            (0o600, ours + 1000, ours != 0),
        ]:
            key.chmod(mode)
            with capturedLogs() as events, mock.patch("os.geteuid", return_value=uid):
                warn_of_readers(key)
            self.assertEqual(warned, bool(events), (oct(mode), uid))
            if warned and uid == ours:
                said = formatEvent(events[0])
                self.assertEqual(f"grpc_server.key_file: server.key can be read by others (mode {mode:04o}).", said)
