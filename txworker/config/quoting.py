"""Quotes keys and values from worker.toml in error messages."""

from __future__ import annotations

import json
import re

from txworker.base.printable import printable


def quoted(key: str) -> str:
    """A key in TOML's notation."""
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else shown(key)


def shown(value: object) -> str:
    """A value, printable, and truncated when it is long."""
    if isinstance(value, int) and value.bit_length() > 64:
        return "a huge integer"  # int to str raises ValueError beyond 4,300 digits
    if not isinstance(value, str | int | float):
        return "an array" if isinstance(value, list) else "a table" if isinstance(value, dict) else "a date or time"
    text = json.dumps(value, ensure_ascii=False)
    return printable(text if len(text) <= 80 else f"{text[:76]}...")
