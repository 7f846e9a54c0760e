"""A part of a job's output that another program removed from its file."""

from __future__ import annotations

from typing import NamedTuple


class Loss(NamedTuple):
    """The bytes from offset `begin` up to `end`, and what was done to the file: "cut", "deleted" or "replaced"."""

    begin: int
    end: int
    what: str
