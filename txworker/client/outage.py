"""How long a client waits for a worker that does not answer, and how often it tries. Pure decisions, no I/O."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

from txworker.client.errors import Unreachable, WorkerError, WorkerStopping, passes
from txworker.client.parameters import SECONDS, check_seconds, check_type
from txworker.client.values import JobRecord, JobResult

FIRST_SECONDS = 0.05
LONGEST_SECONDS = 5.0
"""The pauses between two attempts: each is twice the one before, minus a random part (jitter)."""

MOST_SECONDS = 1e9
"""A call that may take longer has no limit: gRPC counts nanoseconds since 1970 in 64 bits, and takes math.inf for 0."""

TOLD_SECONDS = 0.5
"""A shorter outage is not reported: a connection that is restored at once is not worth a line."""


class Outage:
    """
    The retries of one call, which may be repeated safely.

    patience: seconds without a success after which the call fails; math.inf waits for ever. first_patience: the same
    for a worker that has not answered yet, and nothing is reported of it; None: as patience, and it is reported.
    tell(sentence) is called when the worker is waited for, and when it answers again; `what` names the call in it.

    The wait begins with begin(), or else with the first failure: before that, a stream may have lived for hours.
    """

    def __init__(
        self,
        what: str,
        patience: float,
        tell: Callable[[str], None],
        now: Callable[[], float],
        jitter: Callable[[], float] = random.random,
        first_patience: float | None = None,
    ) -> None:
        self._what = what
        self._patience = patience
        self._left = patience if first_patience is None else first_patience
        self._reached = first_patience is None
        self._tell = tell
        self._now = now
        self._jitter = jitter
        self._began: float | None = None
        self._attempted = now()
        self._pause = FIRST_SECONDS
        self._told = False

    def begin(self) -> None:
        """The call begins now, and is answered at once by a worker that is there."""
        self._began = self._now()

    def failed(self, error: WorkerError, resuming: str = "") -> float:
        """
        An attempt failed: returns how many seconds to wait before the next one. resuming: where that one goes on.

        Raises:
            Unreachable: the patience is over.
            WorkerError: the same error, because another attempt would not help.
        """
        if not passes(error):
            raise error
        now = self._now()
        if self._began is None:
            self._began = now
        if now - self._attempted > self._pause:  # the attempt lasted, so the next one may be soon
            self._pause = FIRST_SECONDS
        waited = now - self._began
        if waited >= self._left:
            gone = Unreachable(f"{self._what}: no worker answered for {waited:.0f} s: {error}", code=error.code)
            gone.waited = waited
            raise gone from error
        if self._reached and not self._told and (resuming or waited >= TOLD_SECONDS):
            self._told = True
            lost = "waiting for the next worker" if isinstance(error, WorkerStopping) else "connection lost"
            self._tell(f"{self._what}: {f'connection lost, resuming {resuming}' if resuming else lost}: {error}")
        pause = min(self._pause * (0.5 + self._jitter() / 2), self._left - waited)
        self._pause = min(2 * self._pause, LONGEST_SECONDS)
        self._attempted = now + pause
        return pause

    def over(self) -> None:
        """The call has succeeded, or has made progress."""
        self.answered()
        self._pause = FIRST_SECONDS

    def answered(self) -> None:
        """The worker answers. The call itself has made no progress yet, so its pauses go on growing."""
        if self._began is not None and self._told and self._now() - self._began >= TOLD_SECONDS:
            self._tell(f"{self._what}: the worker answers again")
        self._left = self._patience
        self._reached = True
        self._began = None
        self._told = False


def waiting_times(patience: float, first_patience: float | None, deadline: float) -> tuple[float, float | None, float]:
    """
    The waiting times of a client, with the deadline no longer than gRPC can count.

    Raises:
        TypeError: one of them is not a number.
        ValueError: one of them is negative or NaN, or the deadline is 0.
    """
    first = patience if first_patience is None else first_patience
    for name, seconds in (("patience", patience), ("first_patience", first), ("deadline", deadline)):
        check_type(name, SECONDS, seconds, int, float)
        check_seconds(name, seconds)
        if seconds < 0:
            raise ValueError(f"{name} must be a number of seconds, not {seconds!r}")
    if not deadline:
        raise ValueError("deadline must be more than 0 seconds")
    return patience, first_patience, min(deadline, MOST_SECONDS)


class TimeLimit:
    """
    The time limit that a caller gives a call by `timeout`; None and math.inf: no limit.

    Raises:
        TypeError, ValueError: it is not a number of seconds.
    """

    def __init__(self, seconds: float | None, now: Callable[[], float]) -> None:
        check_seconds("timeout", seconds)
        self._seconds = None if seconds is None or seconds > MOST_SECONDS else seconds
        self._now = now
        self._end = math.inf if self._seconds is None else now() + self._seconds

    def left(self) -> float | None:
        """
        The seconds that are left; None: no limit.

        Raises:
            TimeoutError: none are left.
        """
        if self._seconds is None:
            return None
        left = self._end - self._now()
        if left <= 0:
            raise self._error()
        return left

    def at_most(self, seconds: float) -> float:
        """That many seconds, or the seconds that are left if these are fewer. Raises TimeoutError as left() does."""
        left = self.left()
        return seconds if left is None else min(seconds, left)

    def check(self, error: WorkerError) -> None:
        """
        A call failed.

        Raises:
            TimeoutError: its time is over. gRPC's clock may be a little ahead of ours, so DEADLINE_EXCEEDED counts,
            too.
        """
        if self._seconds is not None and error.code == "DEADLINE_EXCEEDED" and error.reason != "MESSAGE_LATE":
            raise self._error()
        self.left()

    def _error(self) -> TimeoutError:
        return not_done(self._seconds or 0.0)


def not_done(seconds: float) -> TimeoutError:
    """The error when a time limit of that many seconds is over."""
    return TimeoutError(f"not done after {seconds:g} s")


def is_over(timeout: float | None) -> bool:
    """Whether a call with that timeout has no time to wait. Raises as TimeLimit."""
    check_seconds("timeout", timeout)
    return timeout is not None and timeout <= 0


def done_now(record: JobRecord, seconds: float) -> JobResult:
    """
    The record of a job that is done, for which there is no time to wait.

    Raises:
        TimeoutError: it is not done.
    """
    if isinstance(record, JobResult):
        return record
    raise not_done(seconds)


NO_LIMIT = TimeLimit(None, lambda: 0.0)
