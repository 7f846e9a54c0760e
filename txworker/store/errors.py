"""Why a worker cannot start with a state directory."""

from __future__ import annotations


class Unusable(Exception):
    """The worker cannot start with this state directory; the sentence says why."""


class InUse(Unusable):
    """Another worker uses it, or the directory that it was copied from; the sentence names that worker or its shim."""
