"""The door we knock on: being registered with the scheduler."""

from txworker.scheduler.link import Link
from txworker.scheduler.registration import Registration

__all__ = ["Link", "Registration"]
