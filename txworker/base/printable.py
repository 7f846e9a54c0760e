"""
Makes text from outside safe to show in a log line, an error message or on a terminal.

All text that comes from a request, a job, a file name, a peer, a scheduler, a configuration or an exception passes
through here. Pure functions; any thread.
"""

from __future__ import annotations

import re

MOST_IN_SENTENCE = 200
"""The most characters of one value in an error message."""

_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
"""
Invisible characters that str.isprintable() accepts, because their category is letter, mark or symbol
(Default_Ignorable_Code_Point, and the blank Braille pattern).
"""


def printable(text: str, keep: str = "") -> str:
    """
    Replace each character that is not printable by its Python escape; characters in `keep` stay.

    Not printable are control characters (C0, C1), characters that change the writing direction or end a line or a
    paragraph, characters without width, surrogates, and every space but U+0020. A backslash stays as it is, so a second
    call changes nothing.
    """
    if text.isprintable() and (text.isascii() or not _INVISIBLE.search(text)):
        return text
    return "".join(
        char if char in keep or _is_visible(char) else char.encode("unicode_escape").decode() for char in text
    )


def cut(text: str, most: int = MOST_IN_SENTENCE) -> str:
    """The text, cut to `most` characters and followed by its full length if it is longer."""
    return text if len(text) <= most else f"{text[: most - 10]}… ({len(text)} characters)"


def _is_visible(char: str) -> bool:
    return char.isprintable() and not _INVISIBLE.match(char)
