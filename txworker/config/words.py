"""What was written, as it may stand in a sentence for the operator."""

from __future__ import annotations

import json
import re

from txworker.base.printable import printable


def quoted(key: str) -> str:
    """A key as TOML would write it."""
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else shown(key)


def shown(value: object) -> str:
    """A value, printable, and cut where it is long."""
    if isinstance(value, int) and value.bit_length() > 64:
        return "a huge integer"  # printing it could itself fail
    if not isinstance(value, str | int | float):
        return "an array" if isinstance(value, list) else "a table" if isinstance(value, dict) else "a date or time"
    text = json.dumps(value, ensure_ascii=False)
    return printable(text if len(text) <= 80 else f"{text[:76]}...")
