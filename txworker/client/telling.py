"""How a client reports outages unless the program gives it a function for that."""

from __future__ import annotations

import logging

_log = logging.getLogger("txworker.client")


def tell_log(sentence: str) -> None:
    """Log the sentence as a warning of the logger "txworker.client"."""
    _log.warning("%s", sentence)
