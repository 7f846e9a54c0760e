"""Who may do what with the page. The one place where that is asked: roles, when there are some, belong here."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Action(enum.Enum):
    """What a request wants."""

    SEE = "see jobs and their output"
    STOP = "stop jobs"


@dataclass(frozen=True)
class Caller:
    """Where a request comes from, and the common name of its client certificate ("": it has none)."""

    address: str
    name: str = ""

    def __str__(self) -> str:
        return f"{self.name} at {self.address}" if self.name else self.address


class Forbidden(Exception):
    """The caller may not do that; one sentence."""


class Access:
    """
    Whoever reaches the page may see: the transport lets in only this machine's users, or those with a certificate of
    the client CA. Stopping must have been allowed when the page was started.
    """

    def __init__(self, allow_stop: bool) -> None:
        self._allow_stop = allow_stop

    def check(self, caller: Caller, action: Action) -> None:
        """
        Asked before every answer.

        Raises:
            Forbidden: the caller may not do that.
        """
        if action is Action.STOP and not self._allow_stop:
            raise Forbidden("this page only shows; `txworker web --allow-stop` lets it stop jobs")

    def may(self, caller: Caller, action: Action) -> bool:
        """The same as an answer."""
        try:
            self.check(caller, action)
        except Forbidden:
            return False
        return True
