"""How a worker is reached: what is wrong with TLS files is said before gRPC sees them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from txworker.client import TLS, Client
from txworker.client.connection import target


class TLSTests(SynchronousTestCase):
    def test_pairs(self) -> None:
        """A certificate needs its key; gRPC would end the process."""
        for files in ({"cert": "a"}, {"key": "a"}, {"ca": "a", "key": "a"}):
            with self.assertRaisesRegex(ValueError, "cert and key go together"):
                TLS(**files)

    def test_no_pem(self) -> None:
        """So it does for an empty file; others cannot be what was meant."""
        for content in ("", "junk"):
            Path(name := self.mktemp()).write_text(content)
            for tls in (TLS(ca=name), TLS(cert=name, key=name)):
                with self.assertRaisesRegex(ValueError, "is not a PEM file"):
                    Client(tls=tls)

    def test_missing(self) -> None:
        """A file that is not there is an OSError."""
        with self.assertRaises(FileNotFoundError):
            Client(tls=TLS(ca="/no/such/file"))


class TargetTests(SynchronousTestCase):
    def test_paths(self) -> None:
        """A socket's path is a URI to gRPC, whatever characters it has."""
        self.assertEqual(["host:1", "unix:/a%20b"], [target("host:1"), target("unix:/a b")])
        self.assertEqual("[::1]:1", target("[::1]:1"))

    def test_no_address(self) -> None:
        """What cannot be an address is refused at once, and not waited for; gRPC takes port 443 where there is none."""
        for addr in ("", "host", "127.0.0.1:", ":1", "::1", "a:b:c", "http://host:1", "host:0", "host:99999", "unix:"):
            with self.assertRaisesRegex(ValueError, "addr"):
                Client(addr)

    def test_waiting_times(self) -> None:
        """Numbers of seconds that make no sense are refused, too."""
        for name in ("patience", "first_patience", "deadline"):
            for seconds in (-1, math.nan, "5"):
                times: Any = {name: seconds}
                with self.assertRaisesRegex(ValueError, f"{name} must be a number of seconds, not "):
                    Client(**times)
        with self.assertRaisesRegex(ValueError, "deadline must be more than 0 seconds"):
            Client(deadline=0)
