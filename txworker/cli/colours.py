"""Colours on a terminal: whether they are used, and which state has which."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from typing import TextIO

from txworker.base.printable import printable

WHEN = ("auto", "always", "never")
"""The values of --color."""

_RESET = "\x1b[0m"
_RED, _GREEN, _YELLOW, _BLUE, _MAGENTA, _CYAN = (f"\x1b[{number}m" for number in range(31, 37))
_OF_JOBS = (_CYAN, _YELLOW, _GREEN, _MAGENTA, _BLUE)

_OF_STATES = {
    "pending": _YELLOW,
    "running": _CYAN,
    "stopping": _YELLOW,
    "succeeded": _GREEN,
    "failed": _RED,
    "stopped": _YELLOW,
    "timed_out": _RED,
    "lost": _RED,
}


def is_terminal(stream: TextIO | None, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether the stream is a terminal that can move its cursor and show colours."""
    return stream is not None and stream.isatty() and environ.get("TERM") != "dumb"


def has_colours(options: argparse.Namespace, environ: Mapping[str, str] = os.environ) -> bool:
    """
    Whether stdout gets colours: as --color says; by default on a terminal, unless NO_COLOR is set and not empty
    (https://no-color.org).
    """
    if options.color != "auto":
        return bool(options.color == "always")
    return not environ.get("NO_COLOR") and is_terminal(sys.stdout, environ)


class Painted(str):
    """A line with a colour from the character `begin` up to `end`. As a str it is the line without the colour."""

    begin: int
    end: int
    colour: str

    def __new__(cls, text: str, begin: int, end: int, colour: str) -> Painted:
        line = super().__new__(cls, text)
        line.begin, line.end, line.colour = begin, end, colour
        return line

    def after(self, prefix: str) -> Painted:
        """The line with plain text before it."""
        shift = len(prefix)
        return Painted(prefix + self, self.begin + shift, self.end + shift, self.colour)

    def shown(self) -> str:
        """The text for the terminal. Unprintable characters are escaped, so it has no control codes but ours."""
        parts = (self[: self.begin], self[self.begin : self.end], self[self.end :])
        before, word, rest = map(printable, parts)
        return f"{before}{self.colour}{word}{_RESET}{rest}" if word else f"{before}{rest}"


def with_state(line: str, state: str, begin: int, options: argparse.Namespace) -> str:
    """The line, with the name of the state at that position in its colour, if colours are used."""
    if state not in _OF_STATES or not has_colours(options):
        return line
    return Painted(line, begin, begin + len(state), _OF_STATES[state])


def name_of_job(name: str, number: int, options: argparse.Namespace) -> str:
    """The prefix of the lines of the job with this number among several, in a colour of its own."""
    name = printable(name)
    return f"{_OF_JOBS[number % len(_OF_JOBS)]}{name}{_RESET}" if has_colours(options) else name
