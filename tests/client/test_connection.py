"""How a worker is reached: what is wrong with TLS files is said before gRPC sees them."""

from __future__ import annotations

from pathlib import Path

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
