"""Errors of the HTTP server that keep the worker from starting."""

from __future__ import annotations


class CannotServe(Exception):
    """The address cannot be bound. The message says why."""
