"""The version of this package, for people and for the shim's handshake."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def own_version() -> str:
    """As the package's metadata says; "(not installed)" when it runs from its source."""
    try:
        return version("txworker")
    except PackageNotFoundError:
        return "(not installed)"
