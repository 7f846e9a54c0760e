"""Keeps the worker registered with the scheduler, as the scheduler's client."""

from txworker.scheduler.link import Link
from txworker.scheduler.registration import Registration

__all__ = ["Link", "Registration"]
