"""The worker's end of its connection to the shim (shim/messages.py): starts go out, facts come back. Reactor thread."""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from txworker.base.logs import Logger
from txworker.base.reactor import Timer, WatchingReactor
from txworker.shim.messages import RECALLED, Channel, Message

IN_FLIGHT = 8
"""So many starts are with the shim at a time: enough that it never waits for one, few enough to be recalled."""

RECALL_SECONDS = 0.1
"""A start that takes longer hangs; those behind it come back, and whether they are still wanted is asked again."""

_FLUSH_SECONDS = 0.001
_RELEASE_SECONDS = 0.01
"""So long a release waits for the next start, which takes it along: to wake the shim costs more than all it does."""

_AT_ONCE = 64
"""Messages of one turn; then others have theirs."""


class Child(Protocol):
    """A process of the shim's: ChildTransport."""

    def exited(self, how: Message) -> None:
        """It has exited; `how` is the exit record of the message."""


@dataclass(frozen=True)
class Start:
    """
    A start: the message spawn, with what goes beside it. The descriptors are the caller's, and open until it is over.

    check() is called last thing before it is sent, perhaps again, and may raise. began(pid, pipes, at) gives the
    child, which was started then, failed(error) hears that there is none; one of the two is called, once.
    """

    message: Message
    descriptors: Sequence[int]
    check: Callable[[], None]
    began: Callable[[int, Sequence[int], float], Child]
    failed: Callable[[Exception], None]


@implementer(IReadDescriptor)
class ShimConnection:
    """
    lost(): the connection has ended, for the shim has; every start that waits has failed by then.

    shim_pid and thread_id: of the shim, and of its thread whose children jobs are.
    """

    _log = Logger()

    def __init__(
        self, reactor: WatchingReactor, channel: Channel, shim_pid: int, thread_id: int, lost: Callable[[], None]
    ) -> None:
        self.shim_pid = shim_pid
        self.thread_id = thread_id
        self._reactor = reactor
        self._channel = channel
        self._lost = lost
        self._children: dict[str, Child] = {}
        self._waiting: deque[Start] = deque()
        self._in_flight: dict[str, Start] = {}
        self._recall: Timer | None = None
        self._recalled = False
        self._flush: Timer | None = None
        self._released: list[str] = []
        self._releasing: Timer | None = None
        self._closed = False
        reactor.addReader(self)

    def start(self, start: Start) -> None:
        """Ask for a process; begun or failed is told later, never within this call."""
        if self._closed:
            self._reactor.callLater(0, start.failed, OSError(errno.ECONNRESET, "the shim has ended", "shim"))
            return
        self._waiting.append(start)
        self._send_next()

    def adopt(self, job_id: str, child: Child) -> None:
        """A process that the shim has from before is that child from now on."""
        self._children[job_id] = child

    def enforce(self, job_id: str, reason: str, kill_at: float) -> None:
        """What the shim is to enforce should this worker die: KILL at that moment of the monotonic clock."""
        self._send({"type": "enforce", "job": job_id, "reason": reason, "kill_at": kill_at})

    def release(self, job_id: str, keep: bool) -> None:
        """The job's end is written down: its process may be reaped. keep: what it left may go on printing."""
        self._children.pop(job_id, None)
        if keep:
            self._send({"type": "release", "jobs": [job_id], "keep": True})
        elif not self._closed:
            self._released.append(job_id)
            if self._releasing is None:
                self._releasing = self._reactor.callLater(_RELEASE_SECONDS, self._release_now)

    def close(self, leave: bool = True) -> None:
        """The shim goes on alone with what it has, or ends if it has no job. Without leave, what is starting ends."""
        self._send_released()
        if not leave:
            self._send({"type": "forget"})
        self._end()
        self._fail_starts(OSError(errno.EPIPE, "the worker is stopping", "shim"))

    def fileno(self) -> int:
        """Twisted: what is watched."""
        return self._channel.fileno()

    def doRead(self) -> None:
        """Twisted: the shim has said something."""
        for _ in range(_AT_ONCE):
            if self._closed:
                return
            try:
                message, descriptors = self._channel.receive()
            except BlockingIOError:
                return
            except OSError:
                self._shim_ended()
                return
            with self._log.failuresHandled("hearing {message} of the shim", message=message.get("type")):
                self._hear(message, descriptors)

    def connectionLost(self, reason: Failure) -> None:
        """Twisted: the other end has hung up."""
        self._shim_ended()

    def logPrefix(self) -> str:
        """Twisted: for its own log."""
        return "txworker.process"

    def _hear(self, message: Message, descriptors: list[int]) -> None:
        job_id = message.get("job", "")
        if message["type"] == "exited":
            child = self._children.get(job_id)
            if child is not None:
                child.exited(message["exit"])
        elif message["type"] == "started":
            self._began(self._answered(job_id), message, descriptors)
        elif message["type"] == "failed":
            self._failed(self._answered(job_id), message)

    def _answered(self, job_id: str) -> Start | None:
        start = self._in_flight.pop(job_id, None)
        if self._recall is not None:
            self._recall.cancel()
            self._recall = None
        self._recalled = False
        self._send_next()
        return start

    def _began(self, start: Start | None, message: Message, descriptors: list[int]) -> None:
        if start is None:
            for fd in descriptors:
                os.close(fd)
            return
        self._children[message["job"]] = start.began(message["pid"], descriptors, message["at"])

    def _failed(self, start: Start | None, message: Message) -> None:
        if start is None:
            return
        if message["step"] == RECALLED:
            self._waiting.appendleft(start)
            self._send_next()
            return
        number = message["errno"]
        start.failed(OSError(number, os.strerror(number), message["step"] or None))

    def _send_next(self) -> None:
        """Send what may be sent. While one hangs nothing more is: it waits here, where it can still be forgotten."""
        while self._waiting and len(self._in_flight) < IN_FLIGHT and not self._recalled and not self._closed:
            start = self._waiting.popleft()
            try:
                start.check()
                self._in_flight[start.message["job"]] = start
                released, self._released = self._released, []
                self._channel.send({**start.message, "release": released}, start.descriptors)
            except (
                Exception
            ) as error:  # check() raises whatever its caller wants to hear, the socket when the shim is gone
                self._in_flight.pop(start.message["job"], None)
                self._reactor.callLater(0, start.failed, error)
        self._mind_room()
        if self._in_flight and self._recall is None and not self._recalled and not self._closed:
            self._recall = self._reactor.callLater(RECALL_SECONDS, self._ask_back)

    def _ask_back(self) -> None:
        """The first of those that are in flight hangs; those behind it are to come back."""
        self._recall = None
        self._recalled = True
        if len(self._in_flight) > 1:
            self._send({"type": "recall"})

    def _send(self, message: Message) -> None:
        if self._closed:
            return
        try:
            self._channel.send(message)
        except OSError:
            return  # the shim is gone: doRead() hears of it
        self._mind_room()

    def _release_now(self) -> None:
        self._releasing = None
        self._send_released()

    def _send_released(self) -> None:
        released, self._released = self._released, []
        if released:
            self._send({"type": "release", "jobs": released, "keep": False})

    def _mind_room(self) -> None:
        if self._channel.full and self._flush is None and not self._closed:
            self._flush = self._reactor.callLater(_FLUSH_SECONDS, self._flush_now)

    def _flush_now(self) -> None:
        self._flush = None
        try:
            self._channel.flush()
        except OSError:
            return
        self._mind_room()

    def _shim_ended(self) -> None:
        if self._closed:
            return
        self._end()
        self._fail_starts(OSError(errno.ECONNRESET, "the shim has ended", "shim"))
        self._lost()

    def _end(self) -> None:
        self._closed = True
        self._reactor.removeReader(self)
        self._channel.close()
        for timer in (self._recall, self._flush, self._releasing):
            if timer is not None:
                timer.cancel()
        self._recall = self._flush = self._releasing = None

    def _fail_starts(self, error: OSError) -> None:
        starts = [*self._in_flight.values(), *self._waiting]
        self._in_flight.clear()
        self._waiting.clear()
        for start in starts:
            start.failed(error)
