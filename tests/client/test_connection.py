"""How a worker is reached: what is wrong with TLS files is said before gRPC sees them."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.client.test_tx import QueueReactor
from txworker.client import TLS, AsyncClient, Client, Limits
from txworker.client.connection import target
from txworker.client.tx import TwistedClient


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


class OtherTypesTests(SynchronousTestCase):
    def test_clients(self) -> None:
        """Each client names the parameter that has another type, and shows its value."""
        table: list[tuple[str, Any, str]] = [
            ("addr", 5, "addr must be HOST:PORT or unix:PATH, not 5"),
            ("addr", b"host:1", "addr must be HOST:PORT or unix:PATH, not b'host:1'"),
            ("tls", True, "tls must be a TLS, not True"),
            ("patience", None, "patience must be a number of seconds, not None"),
            ("first_patience", "5", "first_patience must be a number of seconds, not '5'"),
            ("deadline", "5", "deadline must be a number of seconds, not '5'"),
            ("tell", "x", "tell must be callable, not 'x'"),
        ]

        async def make_async_client(**options: Any) -> AsyncClient:
            return AsyncClient(**options)

        makers: list[Callable[..., object]] = [
            Client,
            lambda **options: asyncio.run(make_async_client(**options)),
            lambda **options: TwistedClient(QueueReactor(), **options),
        ]
        for name, value, sentence in table:
            for maker in makers:
                with self.assertRaisesRegex(TypeError, f"^{sentence}$"):
                    maker(**{name: value})

    def test_reactor(self) -> None:
        """An address in the place of the reactor is named, too."""
        with self.assertRaisesRegex(TypeError, "^reactor must be a reactor of Twisted's, not 'host:1'$"):
            TwistedClient("host:1")

    def test_tls(self) -> None:
        """So is what cannot be the name of a file."""
        wrong: Any = {"ca": 5}
        with self.assertRaisesRegex(TypeError, "^ca must be the name of a file, not 5$"):
            TLS(**wrong)

    def test_limits(self) -> None:
        """So is a limit that is no number."""
        table: list[tuple[str, Any, str]] = [
            ("max_open_files", "9", "max_open_files must be a whole number, not '9'"),
            ("max_output_bytes", 0.5, "max_output_bytes must be a whole number, not 0.5"),
            ("max_cpu_seconds", "9", "max_cpu_seconds must be a number of seconds, not '9'"),
        ]
        for name, value, sentence in table:
            with self.assertRaisesRegex(TypeError, f"^{sentence}$"):
                Limits(**{name: value})
        with self.assertRaisesRegex(ValueError, "^max_processes: .*out of range"):
            Limits(max_processes=2**70)


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
            for seconds in (-1, math.nan):
                times: Any = {name: seconds}
                with self.assertRaisesRegex(ValueError, f"{name} must be a number of seconds, not "):
                    Client(**times)
            with self.assertRaisesRegex(ValueError, f"{name}: int too large"):
                Client(**{name: 10**400})  # type: ignore[arg-type]  # one of those names
        with self.assertRaisesRegex(ValueError, "deadline must be more than 0 seconds"):
            Client(deadline=0)
