"""What is said about a configuration when the worker is put together from it."""

from __future__ import annotations

from typing import Any

from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from txworker.assembly import _registration
from txworker.config import Scheduler


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
