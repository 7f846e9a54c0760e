"""Addresses as people write them."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txworker.base.addresses import HIGHEST_PORT, join_address, split_address


class AddressTests(SynchronousTestCase):
    def test_there_and_back(self) -> None:
        """An address has a host and a port; an IPv6 host is in brackets."""
        table = {"h:1": ("h", 1), "127.0.0.1:65535": ("127.0.0.1", 65_535), "[::1]:0": ("::1", 0)}
        self.assertEqual(table, {text: split_address(text) for text in table})
        self.assertEqual(list(table), [join_address(*parts) for parts in table.values()])

    def test_ports(self) -> None:
        """Zeros before a port do not count. One that is too high is told as such, however long it is."""
        self.assertEqual(("h", 80), split_address("h:" + "0" * 5000 + "80"))
        for port in ("65536", "100000", "9" * 5000):
            self.assertGreater(split_address(f"h:{port}")[1], HIGHEST_PORT)

    def test_none(self) -> None:
        """What is not an address is refused."""
        for text in ("", "h", ":1", "h:", "h:x", "::1:1", "[::1]", "[h]:1", "[]:1", "a b:1", "h:-1", "h:1:1", "h:٣"):
            self.assertRaises(ValueError, split_address, text)
