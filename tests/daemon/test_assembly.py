"""What is said about a configuration when the worker is put together from it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from unittest import mock

from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from txworker.config import Scheduler
from txworker.daemon.assembly import NotUsable, _own_state, _registration, _shelf, _warn_of_readers


class FakeServer:
    """Serves nothing, at that host."""

    def __init__(self, host: str) -> None:
        self.host = host


class RegistrationTests(SynchronousTestCase):
    def test_address_of_nobody(self) -> None:
        """A scheduler that is to dial every address of the worker's machine is worth a warning."""
        for host, advertised, warned in [
            ("0.0.0.0", "", 1),
            ("::", "", 1),
            ("0.0.0.0", "a:1", 0),
            ("127.0.0.1", "", 0),
        ]:
            server: Any = FakeServer(host)
            with capturedLogs() as events:
                _registration(Scheduler(addr="127.0.0.1:9", advertise_addr=advertised), server, None)
            self.assertEqual(warned, sum("advertise_addr is not given" in event["log_format"] for event in events))


class UnsafePlacesTests(SynchronousTestCase):
    def test_not_root(self) -> None:
        """A worker that is not root starts as ever, and says what is wrong; root does not."""
        place = Path("place").absolute()
        place.mkdir()
        place.chmod(0o777)
        for begin, key in [
            (_shelf, "jobs.output_directory"),
            (_own_state, "jobs.state_directory"),
        ]:
            danger = f"{place} can be written by others (mode 0777)"
            with capturedLogs() as events, mock.patch("os.geteuid", return_value=1000):
                begin(place / "below")
            expected = f"{key}: others can change what is in {place}/below: {danger}."
            self.assertEqual([expected], [formatEvent(event) for event in events])
            with mock.patch("os.geteuid", return_value=0):
                refused = self.assertRaises(NotUsable, begin, place / "below")
            self.assertEqual(f"{key}: {place}/below: not safe for a worker that is root: {danger}", str(refused))


class KeyTests(SynchronousTestCase):
    def test_others_can_read_it(self) -> None:
        """A warning, which names file and mode; a group may read it where the worker does so by that group only."""
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
                _warn_of_readers(key)
            self.assertEqual(warned, bool(events), (oct(mode), uid))
            if warned and uid == ours:
                said = formatEvent(events[0])
                self.assertEqual(f"grpc_server.key_file: server.key can be read by others (mode {mode:04o}).", said)
