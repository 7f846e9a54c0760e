"""How long a client waits for a worker that does not answer, and how often it tries. Pure decisions, no I/O."""

from __future__ import annotations

import random
from collections.abc import Callable

from txworker.client.errors import Unreachable, WorkerError, passes

FIRST_SECONDS = 0.05
LONGEST_SECONDS = 5.0
"""The pauses between two attempts: each is twice the one before, and a random part of it is left out (jitter)."""

TOLD_SECONDS = 0.5
"""An outage that is over sooner is not told of: a connection that is made anew at once is no news."""


class Outage:
    """
    One call's way through failures, which may be sent again and again.

    patience: seconds without a success after which the call fails; math.inf waits for ever. tell(sentence) hears when
    the worker is waited for, and when it is back; `what` says in it what is being done.
    """

    def __init__(
        self,
        what: str,
        patience: float,
        tell: Callable[[str], None],
        now: Callable[[], float],
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._what = what
        self._patience = patience
        self._tell = tell
        self._now = now
        self._jitter = jitter
        self._began: float | None = None
        self._pause = FIRST_SECONDS
        self._told = False

    def failed(self, error: WorkerError, resuming: str = "") -> float:
        """
        An attempt failed: how many seconds to wait before the next one. `resuming` says where that goes on.

        Raises:
            Unreachable: the patience is over.
            WorkerError: the same error, where another attempt would not help.
        """
        if not passes(error):
            raise error
        now = self._now()
        if self._began is None:
            self._began = now
        waited = now - self._began
        if waited >= self._patience:
            raise Unreachable(f"{self._what}: no worker answered for {waited:.0f} s: {error}", code=error.code)
        if not self._told and (resuming or waited >= TOLD_SECONDS):
            self._told = True
            self._tell(f"{self._what}: connection lost{resuming and ', resuming ' + resuming}: {error}")
        pause = self._pause * (0.5 + self._jitter() / 2)
        self._pause = min(2 * self._pause, LONGEST_SECONDS)
        return min(pause, max(0.0, self._patience - waited))

    def over(self) -> None:
        """An attempt has succeeded, or has made progress."""
        if self._began is not None and self._told and self._now() - self._began >= TOLD_SECONDS:
            self._tell(f"{self._what}: the worker answers again")
        self._began = None
        self._told = False
        self._pause = FIRST_SECONDS
