"""
What is held of an order once its process runs: the beginning of each part, and digests to know the rest by.

A request may have 4 MiB. Every running job, every change that is told and every row that is read would hold as much.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

MAX_PART_BYTES = 4096
"""Of each part of an order."""

_ENTRY_BYTES = 8
"""What an argument or a label costs beside its text."""


@dataclass(frozen=True)
class Cut:
    """
    That an order is not whole, and what is known of the rest all the same.

    path: the digest of a path that was cut; labels: the digests of all labels, if some were left out. in_record: it is
    something that a job's record shows.
    """

    path: str = ""
    labels: str = ""
    in_record: bool = False


def text_digest(text: str) -> str:
    """Stands for a text of any length."""
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def label_digest(name: str, value: str) -> str:
    """Stands for a label."""
    return text_digest(f"{len(name)}:{name}{value}")


def text_prefix(text: str, most: int = MAX_PART_BYTES) -> str:
    """The text itself, if it has no more bytes; else so many of them."""
    if len(text) * 4 <= most or (len(text) <= most and _size(text) <= most):
        return text
    return text[:most].encode("utf-8", "surrogateescape")[:most].decode("utf-8", "ignore")


def arguments_prefix(words: tuple[str, ...]) -> tuple[str, ...]:
    """These words themselves, or as many as there is room for, and the beginning of the next."""
    room = MAX_PART_BYTES
    for index, word in enumerate(words):
        room -= _ENTRY_BYTES
        size = _size(word)
        if size > room:
            return (*words[:index], text_prefix(word, room)) if room > 0 else words[:index]
        room -= size
    return words


def pairs_prefix(pairs: Mapping[str, str]) -> Mapping[str, str]:
    """These pairs themselves, or as many as there is room for."""
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
