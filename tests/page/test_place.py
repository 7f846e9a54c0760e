"""Where the page may be served, and to whom."""

from __future__ import annotations

import socket
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from txworker.page import Place, WrongPlace
from txworker.page.serving import url_of

FILES: dict[str, Any] = {"cert": "c.pem", "key": "c.key", "client_ca": "ca.pem"}


class PlaceTests(SynchronousTestCase):
    def test_loopback(self) -> None:
        """On loopback nothing more is needed; a name that merely looks like it is none."""
        for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost"):
            Place(host, 1).check()
        for host in ("0.0.0.0", "::", "10.0.0.7", "jobs.example", "localhost.evil.example", "127.0.0.1.evil.example"):
            with self.assertRaisesRegex(WrongPlace, "is not a loopback address"):
                Place(host, 1).check()

    def test_beyond(self) -> None:
        """Beyond loopback a certificate, its key and the CA of the clients are needed, all of them."""
        Place("0.0.0.0", 1, **FILES).check()
        for missing in FILES:  # without one of them
            with self.assertRaises(WrongPlace):
                Place("0.0.0.0", 1, **{name: file for name, file in FILES.items() if name != missing}).check()

    def test_names(self) -> None:
        """A browser may call it by its address, by the names of the machine or of loopback, and by those given."""
        self.assertEqual({"localhost", "127.0.0.1", "::1", "jobs"}, Place("127.0.0.1", 1, ("jobs",)).hosts)
        beyond = Place("10.0.0.7", 1, ("jobs",), **FILES).hosts
        self.assertLessEqual({"10.0.0.7", "jobs", socket.gethostname()}, beyond)

    def test_url(self) -> None:
        """What a person opens."""
        self.assertEqual("http://[::1]:7/", url_of(Place("::1", 0), 7))
        self.assertEqual("https://jobs.example:443/", url_of(Place("jobs.example", 443, **FILES), 443))
