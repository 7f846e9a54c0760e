"""One call that feeds a job's stdin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed

from txworker.base.waiting import Waiters
from txworker.jobs.errors import CallerGone, OutOfResources
from txworker.ports import Stdin


class Feeder:
    """
    Feeds one job, and no other call does until close(). left() is called by close(), once. Reactor thread.

    error: why finish() was called; None: the client has sent its last message.
    """

    def __init__(self, stdin: Stdin, left: Callable[[], None]) -> None:
        self._stdin = stdin
        self._left = left
        self._before = stdin.taken
        self._finished = self._closed = False
        self._changed = Waiters()
        self.error: Exception | None = None
        self._feeding: Deferred[Any] = succeed(False)
        self._closing: Deferred[Any] = stdin.closed().addCallback(lambda _: self.finish())

    @property
    def taken(self) -> int:
        """The bytes that this call has fed."""
        return max(0, self._stdin.taken - self._before)

    @property
    def total(self) -> int:
        """The bytes that all calls have fed."""
        return self._stdin.taken

    def feed(self, data: bytes, end: bool) -> Deferred[bool]:
        """
        Feed these bytes, and then close the stdin if `end`. Fires when they are in the pipe, with whether more can
        follow. Cancelling stops only the waiting.

        Raises (through the Deferred):
            OutOfResources: there is no descriptor or no memory to pass them on.
            CallerGone: close() was called.
        """
        if self._closed:
            return fail(CallerGone())
        if not data and not end:
            return succeed(self._stdin.is_open)
        feeding = self._feeding = self._stdin.feed(data, end)
        return feeding.addCallbacks(lambda _: self._stdin.is_open and not end, _no_resources)

    def over(self) -> Deferred[None]:
        """
        Fires when finish() was called, or the stdin is closed. Cancelling stops only the waiting.

        Raises (through the Deferred):
            Exception: the `error` of finish().
        """
        return self._changed.until(lambda: self._finished).addCallback(lambda _: self._raise())

    def finish(self, error: Exception | None = None) -> None:
        """The client sends no more, or `error`. Only the first call counts."""
        if not self._finished:
            self._finished, self.error = True, error
            self._changed.wake()

    def close(self) -> None:
        """The call has ended; what was handed over still reaches the job. A second call does nothing."""
        if not self._closed:
            self._closed = True
            self._closing.addErrback(lambda _: None)
            self._closing.cancel()
            self._feeding.cancel()
            self._left()

    def _raise(self) -> None:
        if self.error is not None:
            raise self.error


def _no_resources(failure: object) -> bool:
    error = getattr(failure, "value", None)
    if isinstance(error, OSError):
        raise OutOfResources(f"the stdin of the job cannot be fed now: {error.strerror or error}") from error
    return failure  # type: ignore[return-value]  # a Failure passes on
