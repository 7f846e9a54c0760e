"""What a client says by itself, for programs that do not ask to hear it another way."""

from __future__ import annotations

import logging

_log = logging.getLogger("txworker.client")


def tell_log(sentence: str) -> None:
    """A warning of the logger "txworker.client"."""
    _log.warning("%s", sentence)
