"""Which files replace the certificate in use, and what is logged about files that cannot."""

from __future__ import annotations

import datetime
import os
import time
from dataclasses import replace
from pathlib import Path

from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import provider

from tests.support.pems import Authority
from txworker.rpc import tls
from txworker.rpc.pems import CertificateFiles, UnfitCertificate
from txworker.rpc.tls import RECHECK_SECONDS, ReloadingCertificate


class ReloadingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.authority = Authority()
        self.authority.sign("worker").write(self.directory, "server")
        (self.directory / "ca.pem").write_bytes(self.authority.pem)
        self.clock = Clock()
        names = ("server.pem", "server.key", "ca.pem")
        self.files = CertificateFiles(*(self.directory / name for name in names))
        self.reloading = ReloadingCertificate(lambda: self.files, self.clock.seconds)
        self.said: list[str] = []

        @provider(ILogObserver)
        def observer(event: LogEvent) -> None:
            self.said.append(formatEvent(event))

        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def assert_kept(self, *words: str) -> None:
        """No new certificate is served, and one line says why, however many handshakes come."""
        for _ in range(3):
            self.assertIsNone(self.reloading())
        (line,) = self.said
        for word in ("The old certificate goes on serving", *words):
            self.assertIn(word, line)
        self.said.clear()

    def test_renewed(self) -> None:
        """A matching pair is served at once, and that is logged."""
        self.assertIsNone(self.reloading())
        self.authority.sign("again").write(self.directory, "server")
        self.assertIsNotNone(self.reloading())
        self.assertIsNone(self.reloading())
        self.assertEqual([f"Serving the certificate that is now in {self.directory}/server.pem."], self.said)

    def test_no_file(self) -> None:
        """A FIFO, a device or an endless file in the place of one of the files holds up no handshake."""
        (self.directory / "endless").touch()
        os.truncate(self.directory / "endless", 2**33)
        for name in ("server.pem", "server.key", "ca.pem"):
            for make in (os.mkfifo, lambda path: path.symlink_to("/dev/zero"), lambda path: path.symlink_to("endless")):
                (self.directory / name).rename(self.directory / "kept")
                make(self.directory / name)
                self.assert_kept(f"{self.directory}/{name}: it ")
                (self.directory / "kept").replace(self.directory / name)
                self.assertIsNone(self.reloading())

    def test_other_files(self) -> None:
        """Once other files are named, those are served."""
        self.assertIsNone(self.reloading())
        self.authority.sign("other").write(self.directory, "other")
        self.files = replace(self.files, crt=self.directory / "other.pem", key=self.directory / "other.key")
        self.assertIsNotNone(self.reloading())
        self.assertEqual([f"Serving the certificate that is now in {self.directory}/other.pem."], self.said)

    def hours_left(self) -> float | None:
        """Until the served certificate expires; None: unknown."""
        at = self.reloading.expires_at
        return None if at is None else round((at - time.time()) / 3600)

    def test_expiry(self) -> None:
        """It tells when the certificate expires that is served, not one that is not valid yet, nor an earlier one."""
        self.assertEqual(24, self.hours_left())
        self.authority.sign("early", datetime.timedelta(hours=3)).write(self.directory, "server")
        self.assertIsNone(self.reloading())
        self.assertEqual(24, self.hours_left())
        self.authority.sign("again", datetime.timedelta(hours=-1)).write(self.directory, "server")
        self.assertIsNotNone(self.reloading())
        self.assertEqual(23, self.hours_left())

    def test_expired(self) -> None:
        """It tells so of a certificate that has expired, too; a pair that cannot serve has no known end."""
        self.authority.sign("old", datetime.timedelta(days=-3)).write(self.directory, "server")
        self.reloading = ReloadingCertificate(lambda: self.files)
        self.assertEqual(-48, self.hours_left())
        (self.directory / "server.key").write_bytes(self.authority.sign("other").key)
        self.reloading = ReloadingCertificate(lambda: self.files)
        self.assertIsNone(self.hours_left())

    def test_garbage(self) -> None:
        """When one of the files is garbage, empty, cut or missing, the old one serves, and the log names it."""
        for name in ("server.pem", "server.key", "ca.pem"):
            whole = (self.directory / name).read_bytes()
            for data in (b"garbage", b"", whole[: len(whole) // 2], whole[:-20], b"\xff" * 100):
                (self.directory / name).write_bytes(data)
                self.assert_kept(f"{self.directory}/{name}")
                (self.directory / name).write_bytes(whole)
                self.assertIsNone(self.reloading())
            (self.directory / name).unlink()
            self.assert_kept(f"{self.directory}/{name}", "No such file")
            (self.directory / name).write_bytes(whole)
            self.assertIsNone(self.reloading())

    def test_told_once(self) -> None:
        """A problem is logged once per occurrence, not for each handshake."""
        key = self.directory / "server.key"
        for _ in range(2):
            key.rename(self.directory / "away")
            for _ in range(100):
                self.assertIsNone(self.reloading())
            (self.directory / "away").rename(key)
            self.assertIsNone(self.reloading())
        self.assertEqual(2, len(self.said))

    def test_mismatch(self) -> None:
        """A new certificate is not served before its key is there."""
        renewed = self.authority.sign("renewed")
        (self.directory / "server.pem").write_bytes(renewed.crt)
        self.assert_kept(
            f"the key in {self.directory}/server.key is not that of the certificate in {self.directory}/server.pem"
        )
        (self.directory / "server.key").write_bytes(renewed.key)
        self.assertIsNotNone(self.reloading())

    def test_validity(self) -> None:
        """A certificate that has expired or is not valid yet is not served."""
        day = datetime.timedelta(days=1)
        self.authority.sign("old", shifted_by=-3 * day).write(self.directory, "server")
        self.assert_kept(f"{self.directory}/server.pem", "has expired")
        self.authority.sign("early", shifted_by=3 * day).write(self.directory, "server")
        self.assert_kept(f"{self.directory}/server.pem", "not yet valid")

    def test_becomes_valid(self) -> None:
        """Unchanged unfit files are checked again after RECHECK_SECONDS, not at every handshake."""
        looks: list[object] = []
        answers = [UnfitCertificate("too early"), None]

        def check(*arguments: object) -> None:
            looks.append(arguments)
            if answer := answers.pop(0):
                raise answer

        self.patch(tls, "check", check)
        self.authority.sign("early").write(self.directory, "server")
        self.assert_kept("too early")
        self.assertEqual(1, len(looks))
        self.clock.advance(RECHECK_SECONDS)
        self.assertIsNotNone(self.reloading())
