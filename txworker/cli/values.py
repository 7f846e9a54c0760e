"""The values that options take: words to Python, or one sentence for whoever typed them."""

from __future__ import annotations

import argparse

from txworker.pb import worker_pb2 as pb

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_STATES = {name.removeprefix("JOB_STATE_").lower(): number for name, number in pb.JobState.items() if number}


def pair(text: str) -> tuple[str, str]:
    """NAME=VALUE."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def seconds(text: str) -> float:
    """0 or more."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < 3e11:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")
    return number


def some_seconds(text: str) -> float:
    """More than 0."""
    number = seconds(text)
    if not number:
        raise argparse.ArgumentTypeError("0 seconds are no time to wait")
    return number


def count(text: str) -> int:
    """0 or more, and no more than the wire can carry."""
    if not (text.isascii() and text.isdigit() and int(text) < 2**31):
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 to {2**31 - 1}")
    return int(text)


def size(text: str) -> int:
    """Bytes, with K, M, G or T behind it for powers of 1024."""
    digits = text.rstrip("KMGTkmgt")
    unit = _UNITS.get(text[len(digits) :].upper(), 0)
    if not (unit and digits.isascii() and digits.isdigit() and int(digits) * unit < 2**63):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of bytes; 4096, 64K, 10M and 2G are")
    return int(digits) * unit


def states(text: str) -> list[int]:
    """Names of states, with commas between them."""
    words = text.split(",")
    for word in words:
        if word not in _STATES:
            raise argparse.ArgumentTypeError(f"{word!r} is no state of a job; these are: {', '.join(_STATES)}")
    return [_STATES[word] for word in words]
