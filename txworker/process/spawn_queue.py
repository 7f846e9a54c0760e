"""
Starts that are requested of the shim's spawn thread, over a socket of their own (shim/requests.py): a few at a time, so
that those behind a start that hangs can be recalled.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from txworker.base.reactor import Timer, WatchingReactor
from txworker.process.watched_channel import WatchedChannel
from txworker.shim.messages import RECALLED, Channel, Message, close_all

IN_FLIGHT = 8
"""Spawn requests that the shim has at a time: enough that it need not wait for one, few enough to recall them."""

RECALL_SECONDS = 0.1
"""A start that takes longer hangs: the requests behind it are recalled, and their check() is called again."""


CHECK_SECONDS = 1.0
"""While a start hangs, the check() of those behind it is called at this interval, because callers leave meanwhile."""


class Child(Protocol):
    """What the connection needs of a process of the shim (ChildTransport)."""

    def exited(self, how: Message) -> None:
        """The process exited; `how` is the message's `exit`."""

    def orphaned(self) -> None:
        """The shim has ended, so nothing keeps the process's pid from becoming another's."""

    def fed(self, stdin: Message) -> None:
        """What was fed is in the pipe, or stdin is closed; `stdin` is the message's."""


@dataclass(frozen=True)
class SpawnRequest:
    """
    The message `spawn` and its descriptors, which the caller keeps open until the answer.

    check() is called immediately before the message is sent, possibly more than once, and may raise. Then either
    began(pid, pipes, report) is called, which returns the process that was started as the message `started` reports, or
    failed(error); once.
    """

    message: Message
    descriptors: Sequence[int]
    check: Callable[[], None]
    began: Callable[[int, Sequence[int], Message], Child]
    failed: Callable[[Exception], None]


class SpawnQueue:
    """
    began(job_id, child) is called for each process that was started, recall() when requests must be answered RECALLED,
    lost() when the shim has hung up. Reactor thread.
    """

    def __init__(
        self,
        reactor: WatchingReactor,
        channel: Channel,
        began: Callable[[str, Child], None],
        recall: Callable[[], None],
        lost: Callable[[], None],
    ) -> None:
        self._reactor = reactor
        self._channel = WatchedChannel(reactor, channel, IN_FLIGHT, self._answered, lost)
        self._child_began = began
        self._recall_others = recall
        self._waiting: deque[SpawnRequest] = deque()
        self._in_flight: dict[str, SpawnRequest] = {}
        self._timer: Timer | None = None
        self._recalled: int | None = None  # None, or how many of _waiting were recalled, its first ones

    def put(self, request: SpawnRequest) -> None:
        """Request a process. request.began() or request.failed() is called later, never within this call."""
        if self._channel.closed:
            self._reactor.callLater(0, request.failed, OSError(errno.ECONNRESET, "the shim has ended", "shim"))
            return
        self._waiting.append(request)
        self._send_next()

    def is_in_flight(self, job_id: str) -> bool:
        """Whether that job is requested, and the answer has not come."""
        return job_id in self._in_flight

    def close(self, error: OSError) -> list[str]:
        """
        Request nothing more; what is not answered fails with that error. Returns the jobs of the requests that were
        sent and not answered. May be called again.
        """
        if self._channel.closed:
            return []
        self._channel.close()
        self._stop_timer()
        unanswered = list(self._in_flight)
        requests = [*self._in_flight.values(), *self._waiting]
        self._in_flight.clear()
        self._waiting.clear()
        for request in requests:
            request.failed(error)
        return unanswered

    def _answered(self, message: Message, descriptors: list[int]) -> None:
        job_id = message["job"] or next(iter(self._in_flight), "")
        request = self._in_flight.pop(job_id, None)
        if request is not None and message.get("step") == RECALLED:
            self._waiting.insert(self._recalled or 0, request)
            self._recalled = (self._recalled or 0) + 1
            if not self._in_flight:  # none hangs: the shim had begun none yet, or had answered what it had begun
                self._stop_timer()
                self._recalled = None
                self._send_next()
            return
        self._stop_timer()
        self._recalled = None
        self._send_next()
        if request is None:
            close_all(descriptors)
        elif message["type"] == "started":
            self._child_began(job_id, request.began(message["pid"], descriptors, message))
        else:
            number = message["errno"]
            request.failed(OSError(number, os.strerror(number), message["step"] or None))

    def _send_next(self) -> None:
        """Send waiting requests. While a start hangs they stay here, where they can still be dropped."""
        self._flush()
        while self._waiting and len(self._in_flight) < IN_FLIGHT and self._may_send():
            request = self._waiting.popleft()
            try:
                request.check()
                self._in_flight[request.message["job"]] = request
                self._channel.send(request.message, request.descriptors)
            except Exception as error:  # from check(), or from the socket when the shim is gone
                self._in_flight.pop(request.message["job"], None)
                if isinstance(error, ConnectionError):
                    error = OSError(error.errno, "the shim has ended", "shim")
                self._reactor.callLater(0, request.failed, error)
        if self._in_flight and self._timer is None and self._may_send():
            self._timer = self._reactor.callLater(RECALL_SECONDS, self._recall)

    def _flush(self) -> None:
        """Send what the kernel had no room or no memory for."""
        with suppress(OSError):  # it lacks memory still; or the shim is gone, which lost() tells
            self._channel.flush()

    def _may_send(self) -> bool:
        return self._recalled is None and not self._channel.closed

    def _recall(self) -> None:
        """The first of the requests in flight hangs: recall those behind it, and send them when it is answered."""
        self._flush()
        self._timer = self._reactor.callLater(CHECK_SECONDS, self._drop_unwanted)
        self._recalled = 0
        if len(self._in_flight) > 1:
            self._recall_others()

    def _drop_unwanted(self) -> None:
        """A start still hangs: what waits behind it and is not wanted any more fails, and frees what it holds."""
        self._flush()
        self._timer = self._reactor.callLater(CHECK_SECONDS, self._drop_unwanted)
        checked = [(request, _refusal(request)) for request in self._waiting]
        self._waiting = deque(request for request, error in checked if error is None)
        self._recalled = sum(error is None for _, error in checked[: self._recalled])
        for request, error in checked:
            if error is not None:
                self._reactor.callLater(0, request.failed, error)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _refusal(request: SpawnRequest) -> Exception | None:
    try:
        request.check()
    except Exception as error:  # whatever check() raises is what the start fails with
        return error
    return None
