"""Who may see jobs and stop them. Every access decision of the page is made here, so roles would belong here, too."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Action(enum.Enum):
    """What a request asks for."""

    SEE = "see jobs and their output"
    STOP = "stop jobs"


@dataclass(frozen=True)
class Caller:
    """Where a request comes from, and the common name of its client certificate ("": there is none)."""

    address: str
    name: str = ""

    def __str__(self) -> str:
        return f"{self.name} at {self.address}" if self.name else self.address


class Forbidden(Exception):
    """The caller may not do that. The message is one sentence for the user."""


class Access:
    """
    Every caller may see jobs, because the transport admits only this machine's users, or users with a certificate of
    the client CA. Stopping jobs must have been allowed when the page was started.
    """

    def __init__(self, allow_stop: bool) -> None:
        self._allow_stop = allow_stop

    def check(self, caller: Caller, action: Action) -> None:
        """
        Called before every response.

        Raises:
            Forbidden: the caller may not do that.
        """
        if action is Action.STOP and not self._allow_stop:
            raise Forbidden("this page only shows; `txworker web --allow-stop` lets it stop jobs")

    def may(self, caller: Caller, action: Action) -> bool:
        """As check(), but returns the decision."""
        try:
            self.check(caller, action)
        except Forbidden:
            return False
        return True
