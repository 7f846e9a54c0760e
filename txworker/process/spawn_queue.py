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

from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from txworker.base.logs import Logger
from txworker.base.reactor import Timer, WatchingReactor
from txworker.shim.messages import RECALLED, Channel, Message

IN_FLIGHT = 8
"""Spawn requests that the shim has at a time: enough that it need not wait for one, few enough to recall them."""

RECALL_SECONDS = 0.1
"""A start that takes longer hangs: the requests behind it are recalled, and their check() is called again."""


class Child(Protocol):
    """What the connection needs of a process of the shim (ChildTransport)."""

    def exited(self, how: Message) -> None:
        """The process exited; `how` is the message's `exit`."""

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


@implementer(IReadDescriptor)
class SpawnQueue:
    """
    began(job_id, child) is called for each process that was started, recall() when requests must be answered RECALLED,
    lost() when the shim has hung up. Reactor thread.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: WatchingReactor,
        channel: Channel,
        began: Callable[[str, Child], None],
        recall: Callable[[], None],
        lost: Callable[[], None],
    ) -> None:
        self._reactor = reactor
        self._channel = channel
        self._child_began = began
        self._recall_others = recall
        self._lost = lost
        self._waiting: deque[SpawnRequest] = deque()
        self._in_flight: dict[str, SpawnRequest] = {}
        self._timer: Timer | None = None
        self._recalled: int | None = None  # None, or how many of _waiting were recalled, its first ones
        self._closed = False
        reactor.addReader(self)

    def put(self, request: SpawnRequest) -> None:
        """Request a process. request.began() or request.failed() is called later, never within this call."""
        if self._closed:
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
        if self._closed:
            return []
        self._closed = True
        self._reactor.removeReader(self)
        self._channel.close()
        self._stop_timer()
        unanswered = list(self._in_flight)
        requests = [*self._in_flight.values(), *self._waiting]
        self._in_flight.clear()
        self._waiting.clear()
        for request in requests:
            request.failed(error)
        return unanswered

    def fileno(self) -> int:
        """Twisted: the watched descriptor."""
        return self._channel.fileno()

    def doRead(self) -> None:
        """Twisted: answers can be received."""
        for _ in range(IN_FLIGHT):
            if self._closed:
                return
            try:
                message, descriptors = self._channel.receive()
            except BlockingIOError:
                return
            except OSError:
                self._lost()
                return
            with self._log.failuresHandled("handling the shim's message {message}", message=message.get("type")):
                self._answered(message, descriptors)

    def connectionLost(self, reason: Failure) -> None:
        """Twisted: the shim has hung up."""
        self._lost()

    def logPrefix(self) -> str:
        """Twisted: the name in Twisted's log."""
        return "txworker.process"

    def _answered(self, message: Message, descriptors: list[int]) -> None:
        job_id = message["job"]
        request = self._in_flight.pop(job_id, None)
        if request is not None and message.get("step") == RECALLED:
            self._waiting.insert(self._recalled or 0, request)
            self._recalled = (self._recalled or 0) + 1
            return
        self._stop_timer()
        self._recalled = None
        self._send_next()
        if request is None:
            for fd in descriptors:
                os.close(fd)
        elif message["type"] == "started":
            self._child_began(job_id, request.began(message["pid"], descriptors, message))
        else:
            number = message["errno"]
            request.failed(OSError(number, os.strerror(number), message["step"] or None))

    def _send_next(self) -> None:
        """Send waiting requests. While a start hangs they stay here, where they can still be dropped."""
        with suppress(OSError):  # the shim is gone, which doRead() finds out
            self._channel.flush()
        while self._waiting and len(self._in_flight) < IN_FLIGHT and self._recalled is None and not self._closed:
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
        if self._in_flight and self._timer is None and self._recalled is None and not self._closed:
            self._timer = self._reactor.callLater(RECALL_SECONDS, self._recall)

    def _recall(self) -> None:
        """The first of the requests in flight hangs: recall those behind it, and send them when it is answered."""
        self._timer = None
        self._recalled = 0
        if len(self._in_flight) > 1:
            self._recall_others()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
