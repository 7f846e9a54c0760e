"""Addresses as people write them: host:port, an IPv6 host in brackets. Pure functions; no name is resolved."""

from __future__ import annotations

import ipaddress
import re

HIGHEST_PORT = 65_535

_ADDRESS = re.compile(r"(?:\[(?P<ipv6>[^\[\]]+)\]|(?P<host>[A-Za-z0-9._-]+)):0*(?P<port>[0-9]+)")


def split_address(text: str) -> tuple[str, int]:
    """
    The host, an IPv6 one without its brackets, and the port. A port above HIGHEST_PORT is left to the caller.

    Raises:
        ValueError: the text is not an address.
    """
    found = _ADDRESS.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is not an address")
    if found["ipv6"]:
        ipaddress.IPv6Address(found["ipv6"])
    port = found["port"]
    return found["ipv6"] or found["host"], int(port) if len(port) <= 5 else HIGHEST_PORT + 1  # int() of many is slow


def join_address(host: str, port: int) -> str:
    """The opposite: host:port as it can be dialled, and as it stands in a URL."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
