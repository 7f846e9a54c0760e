"""Log formats beside the text of logs.py: an object of JSON for each event, and lines with priorities for a journal."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

from txworker.base.log_events import fields_of, message_of, priority_of, traceback_of

FormatEvent = Callable[[dict[str, Any]], "str | None"]

JSON_KEYS = ("time", "level", "logger", "message", "traceback")
"""The keys that every object may have; fields of these names are left out."""


def format_json(event: dict[str, Any]) -> str | None:
    """
    One object on a line: time (UTC), level, logger, message, then the sentence's fields under their names. None when
    the event has no text.

    Twisted's eventAsJSON has all that the process knows about an event, for programs that load it again with Twisted;
    this has what the log's reader asks for.
    """
    message, traceback = message_of(event), traceback_of(event)
    if not message and not traceback:
        return None
    entry: dict[str, Any] = {
        "time": _time(event.get("log_time")),
        "level": getattr(event.get("log_level"), "name", "info"),
        "logger": event.get("log_namespace") or "-",
        "message": message,
    }
    if traceback:
        entry["traceback"] = traceback
    fields = fields_of(event)
    entry |= {name: _json_value(value) for name, value in fields.items() if name not in JSON_KEYS}
    return json.dumps(entry) + "\n"  # ASCII: standard output may have any encoding


def with_priorities(format_event: FormatEvent) -> FormatEvent:
    """
    The same entries with <N> before each line, by which the journal and syslog know its priority (sd-daemon(3)).
    """

    def format_with_priority(event: dict[str, Any]) -> str | None:
        text = format_event(event)
        if not text:
            return text
        prefix = f"<{priority_of(event)}>"
        return prefix + text.removesuffix("\n").replace("\n", f"\n{prefix}") + "\n"

    return format_with_priority


def _time(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _json_value(value: Any) -> Any:
    """JSON has no infinity."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
