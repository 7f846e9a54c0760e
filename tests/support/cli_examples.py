"""The examples of the command line: those of --help, and those of the README."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from txworker.cli.examples import EXAMPLES, GENERAL

_README = Path(__file__).resolve().parents[2] / "README.md"
_LINE = re.compile(r"^    (txworker .*)$", re.MULTILINE)
_OPERATORS = ("|", "&&", ">", ";")
_SUBSTITUTION = re.compile(r"\$\((.*)\)")


def readme_examples() -> list[str]:
    """The lines of the README's blocks that call txworker, without their comments."""
    return [line.partition("  #")[0].rstrip() for line in _LINE.findall(_README.read_text(encoding="utf-8"))]


def all_examples() -> list[str]:
    """Every line, of --help and of the README."""
    lines = [line for examples in (*EXAMPLES.values(), GENERAL) for line, _ in examples]
    return [*lines, *readme_examples()]


def arguments(line: str) -> list[str]:
    """What the program gets in this line of a shell."""
    substituted = _SUBSTITUTION.search(line)
    lexer = shlex.shlex(substituted[1] if substituted else line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words = list(lexer)
    words = words[words.index("txworker") + 1 :]
    end = next((number for number, word in enumerate(words) if word in _OPERATORS), len(words))
    return words[:end]
