"""Tells users who write a shell's command line that jobs have no shell. Pure functions."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

_OPERATORS = frozenset(("|", "||", "&&", ";", "&", ">", ">>", "<", "<<", "2>", "2>>", "&>", "2>&1"))
_HELD = re.compile(r"[|;<>]|&&|^[A-Za-z_]\w*=")
"""What a shell would interpret within the executable's word: an operator, or an assignment before the command."""

_WORDS = """
. [[ alias bg bind builtin case cd command declare disown enable eval exec exit export fc fg for function hash history
if jobs let local popd pushd read readonly return select set shift shopt source suspend times trap type typeset ulimit
umask unalias unset until wait while
"""
_BUILTINS = frozenset(_WORDS.split())
"""Builtins and reserved words of shells."""

_LONGEST = 200
"""The most characters of a command that the hint repeats."""


def shell_hint(argv: Sequence[str], not_found: bool) -> str:
    """
    A hint if the words look like a shell's command line; "" otherwise.

    not_found: the worker has no such executable. If it has, only operators that stand alone are a sign, and they may be
    intended: ask only about a job that failed.
    """
    try:
        words = [*shlex.split(argv[0]), *argv[1:]]
    except ValueError:  # an unbalanced quote
        words = list(argv)
    operators = {word for word in words[1:] if word in _OPERATORS}
    if any(word.startswith(("-exec", "-ok")) for word in words):
        operators.discard(";")  # as in `find -exec`
    looks_so = not_found and bool(words) and (words[0] in _BUILTINS or _HELD.search(argv[0]) is not None)
    if not (operators or looks_so):
        return ""
    command = " ".join([argv[0], *(word if word in _OPERATORS else shlex.quote(word) for word in argv[1:])])
    return f"no shell here: use `bash -c{f' {shlex.quote(command)}' if len(command) <= _LONGEST else ''}`"
