"""
Shortens the parts of a JobSpec: the beginning of each, and digests to recognize what was cut off.

A request may have 4 MiB. Without this, every running job, every reported change and every row read would hold as much.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

MAX_PART_BYTES = 4096
"""The most of each part of a shortened spec."""

_ENTRY_BYTES = 8
"""Counted for each argument or label, in addition to its text."""


@dataclass(frozen=True)
class Cut:
    """
    What is known of the parts that were cut off a spec.

    path: the digest of the whole path when it was cut, else empty. labels: the digests of all labels, with spaces
    between, when some were cut off, else empty. in_record: a part that a job's record on the wire shows was cut.
    """

    path: str = ""
    labels: str = ""
    in_record: bool = False


def text_digest(text: str) -> str:
    """A hexadecimal digest of a text, 32 characters."""
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def label_digest(name: str, value: str) -> str:
    """A hexadecimal digest of a label, 32 characters."""
    return text_digest(f"{len(name)}:{name}{value}")


def text_prefix(text: str, max_bytes: int = MAX_PART_BYTES) -> str:
    """The text itself when it has no more than max_bytes in UTF-8, else its beginning."""
    if len(text) * 4 <= max_bytes or (len(text) <= max_bytes and _size(text) <= max_bytes):
        return text
    return text[:max_bytes].encode("utf-8", "surrogateescape")[:max_bytes].decode("utf-8", "ignore")


def arguments_prefix(arguments: tuple[str, ...]) -> tuple[str, ...]:
    """The same tuple when it is short enough, else as many arguments as fit and the beginning of the next."""
    room = MAX_PART_BYTES
    for index, argument in enumerate(arguments):
        room -= _ENTRY_BYTES
        size = _size(argument)
        if size > room:
            return (*arguments[:index], text_prefix(argument, room)) if room > 0 else arguments[:index]
        room -= size
    return arguments


def pairs_prefix(pairs: Mapping[str, str]) -> Mapping[str, str]:
    """The same mapping when it is short enough, else as many pairs as fit."""
    room = MAX_PART_BYTES
    kept: dict[str, str] = {}
    for name, value in pairs.items():
        room -= _size(name) + _size(value) + _ENTRY_BYTES
        if room < 0:
            return kept
        kept[name] = value
    return pairs


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogateescape"))
