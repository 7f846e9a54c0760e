"""Durations and sizes as people write them, on the command line and in worker.toml alike; counts. Pure functions."""

from __future__ import annotations

import re
from fractions import Fraction

_SECONDS = {"d": Fraction(86_400), "h": Fraction(3600), "m": Fraction(60), "s": Fraction(1), "ms": Fraction(1, 1000)}
_NUMBER = r"[0-9]+(?:\.[0-9]*)?|\.[0-9]+"
_PART = re.compile(rf"({_NUMBER})(ms|[dhms])")
_DURATION = re.compile(rf"(?:(?:{_NUMBER})(?:ms|[dhms]))+")

_POWERS = "KMGTPE"
_SIZE = re.compile(rf"({_NUMBER})(?:([{_POWERS}])(?:i?B|i)?|B)?", re.IGNORECASE)

_LONGEST = 50
"""The most characters of a text; longer ones are typing mistakes, and take long to convert."""


def seconds(text: str) -> float:
    """
    "90" and "2.5" are seconds; "1h30m", "90s", "1d", "250ms" have units, each at most once, the largest first.

    Raises:
        ValueError: the text is not a duration.
    """
    if len(text) <= _LONGEST:
        if re.fullmatch(_NUMBER, text, re.ASCII):
            return float(text)
        if _DURATION.fullmatch(text):
            parts = _PART.findall(text)
            units = [unit for _, unit in parts]
            if units == [unit for unit in _SECONDS if unit in units]:
                return float(sum(Fraction(_padded(number)) * _SECONDS[unit] for number, unit in parts))
    raise ValueError(f"{text!r} is not a duration")


def size(text: str) -> int:
    """
    A number of bytes; K, M, G, T, P and E are powers of 1024, with or without a "B" or "iB" behind them.

    Raises:
        ValueError: the text is not a size, or not a whole number of bytes.
    """
    found = _SIZE.fullmatch(text) if len(text) <= _LONGEST else None
    if found:
        number, unit = found.groups()
        amount = Fraction(_padded(number)) * 1024 ** (_POWERS.index(unit.upper()) + 1 if unit else 0)
        if amount.denominator == 1:
            return int(amount)
    raise ValueError(f"{text!r} is not a number of bytes")


def counted(number: float, one: str, many: str) -> str:
    """The number and the words after it: `one` if it is 1."""
    return f"{number} {one if number == 1 else many}"


def _padded(number: str) -> str:
    """As Fraction() reads it: with digits on both sides of the point."""
    whole, _, rest = number.partition(".")
    return f"{whole or 0}.{rest or 0}"
