"""
The log: Twisted's, with lines that are printable, whoever wrote what they tell, and made in a sixth of the time.

Two lines for each job, as twistd's own observer makes them, cost a fifth of the worker's time: it formats the time of
day anew for each, and parses each sentence in Python.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

from twisted.logger import FileLogObserver, LogLevel, formatTime
from twisted.logger import Logger as TwistedLogger
from twisted.logger import LogPublisher as Publisher
from twisted.python.reflect import safe_str

from txworker.base.printable import cut, printable

FormatEvent = Callable[[dict[str, Any]], "str | None"]

_SAMPLE_TIME = 1_700_000_000.75
_MOST_IN_FIELD, _MOST_IN_ENTRY = 1_000, 20_000
"""Characters."""

_NUMBERS = (int, float, bool, type(None))
_NOT_PLAIN = ("log_failure", "log_system", "log_flattened", "log_legacy")


class Logger(TwistedLogger):
    """
    Every field of a line is a number, or a text on one line that is printable and not too long, whoever observes it.

    Not so the traceback of a failure, which Twisted makes of it: QuickText looks at that.
    """

    def emit(self, level: LogLevel, format: str | None = None, **fields: object) -> None:
        """As Twisted's."""
        for name, value in fields.items():
            if isinstance(value, str):
                if len(value) > _MOST_IN_FIELD or not (value.isascii() and value.isprintable()):
                    fields[name] = printable(cut(value, _MOST_IN_FIELD))
            elif type(value) not in _NUMBERS and not name.startswith("log_"):
                fields[name] = printable(cut(safe_str(value), _MOST_IN_FIELD))
        super().emit(level, format, **fields)


def quicken(publisher: Publisher) -> int:
    """
    Let those of a publisher's observers that write to a file as twistd sets them up make their text faster.

    That is printable then, also where others made the event, Twisted of an error that nobody handled for example. Any
    other observer, that of `twistd --logger` for example, stays as it is. Returns how many there were.
    """
    quickened = 0
    for observer in list(publisher._observers):
        if isinstance(observer, FileLogObserver) and _writes_as_twistd(observer.formatEvent):
            observer.formatEvent = QuickText(observer.formatEvent)
            quickened += 1
            if isinstance(file := observer._outFile, io.TextIOWrapper):
                file.reconfigure(
                    errors="backslashreplace"
                )  # or what an ASCII terminal cannot show costs the whole line
    return quickened


class QuickText:
    """What `slow` makes of an event, line for line, but printable; the plain ones are made here."""

    def __init__(self, slow: FormatEvent) -> None:
        self._slow = slow
        self._second = -1
        self._time = ""

    def __call__(self, event: dict[str, Any]) -> str | None:
        """The line of an event, or None when there is nothing to say."""
        words = event.get("log_format")
        if not isinstance(words, str) or "()" in words or any(name in event for name in _NOT_PLAIN):
            return self._slowly(event)
        try:
            sentence = words.format_map(event)
            second = int(event["log_time"])
            where = f"{event['log_namespace']}#{event['log_level'].name}"
        except Exception:  # of any class, for what is formatted may be anything: twistd's own has words for it
            return self._slowly(event)
        if not sentence:
            return None
        if second != self._second:
            self._second, self._time = second, formatTime(second)
        if len(sentence) > _MOST_IN_ENTRY or not (sentence.isascii() and sentence.isprintable()):
            sentence = _lines(sentence).replace("\n", "\n\t")
        return f"{self._time} [{where}] {sentence}\n"

    def _slowly(self, event: dict[str, Any]) -> str | None:
        text = self._slow(event)
        return text and _lines(text.removesuffix("\n")) + "\n"


def _lines(text: str) -> str:
    """What is one entry may have several lines: a traceback has. A tab is what tells the further ones from entries."""
    return printable(cut(text, _MOST_IN_ENTRY), keep="\n\t")


def _writes_as_twistd(formatted: FormatEvent) -> bool:
    """It makes of a sample what we would; who formats the time otherwise, for example, does not."""
    sample = {
        "log_format": "{some} words",
        "some": "a\nfew",
        "log_time": _SAMPLE_TIME,
        "log_namespace": "here",
        "log_level": LogLevel.info,
    }
    return formatted(dict(sample)) == QuickText(lambda event: None)(sample)
