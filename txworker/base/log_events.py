"""What log formats for programs take from an event: its sentence, its fields, its level as syslog's priority."""

from __future__ import annotations

from typing import Any

from twisted.logger import LogLevel, eventAsText
from twisted.python.reflect import safe_str

from txworker.base.printable import cut, printable

MOST_IN_FIELD, MOST_IN_ENTRY = 1_000, 20_000
"""The most characters of one field, and of a whole entry."""

NUMBERS = (int, float, bool, type(None))

_NEEDS_TWISTED = ("log_failure", "log_system", "log_flattened", "log_legacy")
"""Keys of events that only Twisted's own formatter can format."""

_PRIORITIES = {
    LogLevel.debug: 7,
    LogLevel.info: 6,
    LogLevel.warn: 4,
    LogLevel.error: 3,
    LogLevel.critical: 2,
}


def priority_of(event: dict[str, Any]) -> int:
    """The level as in syslog(3): 2 (critical) to 7 (debug)."""
    level = event.get("log_level")
    return 6 if level is None else _PRIORITIES.get(level, 6)


def plain_text(event: dict[str, Any]) -> str | None:
    """
    The sentence of an event that str.format can fill in, in a fifth of the time that Twisted takes; None for others.
    """
    template = event.get("log_format")
    if not isinstance(template, str) or "()" in template or any(name in event for name in _NEEDS_TWISTED):
        return None
    try:
        return template.format_map(event)
    except Exception:  # any class, because fields are arbitrary objects; Twisted has a text for what fails
        return None


def message_of(event: dict[str, Any]) -> str:
    """The event's text without time, source and traceback; printable, and of one line if it is a sentence of ours."""
    plain = plain_text(event)
    if plain is not None:
        return (
            plain if len(plain) <= MOST_IN_ENTRY and plain.isascii() and plain.isprintable() else printable_entry(plain)
        )
    try:
        text = eventAsText(event, includeTraceback=False, includeTimestamp=False, includeSystem=False)
    except Exception as error:  # any class, because fields are arbitrary objects
        text = f"(a log event that cannot be formatted: {safe_str(error)})"
    return printable_entry(text)


def traceback_of(event: dict[str, Any]) -> str:
    """The traceback of the event's failure, printable; empty: there is none."""
    failure = event.get("log_failure")
    if failure is None:
        return ""
    try:
        return printable_entry(failure.getTraceback())
    except Exception as error:  # as above
        return f"(a traceback that cannot be formatted: {safe_str(error)})"


def fields_of(event: dict[str, Any]) -> dict[str, Any]:
    """The fields of the sentence: numbers as they are, everything else as printable text. None for legacy events."""
    if "log_legacy" in event:
        return {}
    return {name: field_value(value) for name, value in event.items() if not name.startswith("log_")}


def field_value(value: object) -> Any:
    """A number, or a printable text of one line and bounded length."""
    if type(value) in NUMBERS:
        return value
    text = value if isinstance(value, str) else safe_str(value)
    if len(text) <= MOST_IN_FIELD and text.isascii() and text.isprintable():
        return text
    return printable(cut(text, MOST_IN_FIELD))


def printable_entry(text: str) -> str:
    """An entry may have several lines, for example a traceback; every further line begins with a tab."""
    return printable(cut(text, MOST_IN_ENTRY), keep="\n\t")
