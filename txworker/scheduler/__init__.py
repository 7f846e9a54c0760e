"""Keeps the worker registered with the scheduler, as the scheduler's client."""

from txworker.scheduler.link import Link
from txworker.scheduler.links import Links
from txworker.scheduler.loss import LossTimer
from txworker.scheduler.registration import Intervals, Registration

__all__ = ["Intervals", "Link", "Links", "LossTimer", "Registration"]
