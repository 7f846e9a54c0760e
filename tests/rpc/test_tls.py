"""Certificates that are read anew: what the log says of it."""

from __future__ import annotations

from pathlib import Path

from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from tests.support.pems import Authority
from txworker.rpc.tls import CertificateFiles, _Reloading


class ReloadingTests(SynchronousTestCase):
    def test_told_once(self) -> None:
        """That the files cannot be read is said once, not for each of the handshakes that anybody may make."""
        place = Path(self.mktemp())
        place.mkdir()
        Authority().sign("worker").write(place, "server")
        crt, key = place / "server.pem", place / "server.key"
        reloading = _Reloading(CertificateFiles(crt, key))
        with capturedLogs() as events:
            for _ in range(2):
                key.rename(place / "away")
                for _ in range(100):
                    self.assertIsNone(reloading())
                (place / "away").rename(key)
                self.assertIsNone(reloading())
        self.assertEqual(["warn", "warn"], [event["log_level"].name for event in events])
