"""
Texts that others wrote, as people may be shown them: in a line of the log, in an error's sentence, on a terminal.

Whatever comes from a request, a job, a file's name, a peer, a scheduler, a configuration or an exception goes through
here. Pure; any thread.
"""

from __future__ import annotations

import re

MOST_IN_SENTENCE = 200
"""Characters of one value in a sentence."""

_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
"""Letters and marks by their category, so str.isprintable() lets them pass, which show nothing (Default_Ignorable)."""


def printable(text: str, but: str = "") -> str:
    """
    The text with an escape of Python's in place of each character that is not for printing; those in `but` stay.

    Such are control characters (C0, C1), those that turn the direction of writing or end a line or a paragraph,
    whatever has no width, surrogates, and every space but the plain one. What is printable stays as it is, the
    backslash too: so a text that has been through here comes through again unchanged.
    """
    if text.isprintable() and (text.isascii() or not _UNSEEN.search(text)):
        return text
    return "".join(one if one in but or _shows(one) else one.encode("unicode_escape").decode() for one in text)


def cut(text: str, most: int = MOST_IN_SENTENCE) -> str:
    """A text that may be as long as somebody likes: no longer than that, and if need be with how long it was."""
    return text if len(text) <= most else f"{text[: most - 10]}… ({len(text)} characters)"


def _shows(one: str) -> bool:
    return one.isprintable() and not _UNSEEN.match(one)
