"""Errors of the HTTP server that the start of the worker reports."""

from __future__ import annotations


class CannotServe(Exception):
    """The address cannot be bound. The sentence says why."""
