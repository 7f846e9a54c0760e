"""Keeps the worker registered with the scheduler, as the scheduler's client."""

from txworker.rpc.scheduler.link import Link
from txworker.rpc.scheduler.links import Links
from txworker.rpc.scheduler.loss import LossTimer
from txworker.rpc.scheduler.registration import Intervals, Registration

__all__ = ["Intervals", "Link", "Links", "LossTimer", "Registration"]
