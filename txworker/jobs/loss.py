"""A gap in a job's output that others have made."""

from __future__ import annotations

from typing import NamedTuple


class Loss(NamedTuple):
    """The bytes from one offset up to another, and what somebody has done to the file: "cut", "deleted", "replaced"."""

    begin: int
    end: int
    what: str
