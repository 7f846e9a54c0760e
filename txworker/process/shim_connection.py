"""The worker's end of its connection to the shim: sends requests, receives reports (shim/messages.py)."""

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
"""Spawn requests that the shim has at a time: enough that it need not wait for one, few enough to recall them."""

RECALL_SECONDS = 0.1
"""A start that takes longer hangs: the requests behind it are recalled, and their check() is called again."""

_FLUSH_SECONDS = 0.001
_RELEASE_SECONDS = 0.01
"""How long a release waits for the next spawn request, to go with it: waking the shim is what costs most."""

_MESSAGES_PER_TURN = 64
"""Messages that are read in one turn of the reactor."""


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
class ShimConnection:
    """
    lost(job_ids) is called when the shim has ended; every start that waits has failed by then. job_ids: the starts that
    the shim had; it may have started a process of each, and nothing else knows of these. Reactor thread.

    thread_id: of the shim's thread that is the parent of job leaders.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: WatchingReactor,
        channel: Channel,
        shim_pid: int,
        thread_id: int,
        lost: Callable[[list[str]], None],
    ) -> None:
        self.shim_pid = shim_pid
        self.thread_id = thread_id
        self._reactor = reactor
        self._channel = channel
        self._lost = lost
        self._children: dict[str, Child] = {}
        self._waiting: deque[SpawnRequest] = deque()
        self._in_flight: dict[str, SpawnRequest] = {}
        self._recall: Timer | None = None
        self._recalled = False
        self._flush: Timer | None = None
        self._released: list[str] = []
        self._releasing: Timer | None = None
        self._closed = False
        reactor.addReader(self)

    @property
    def job_count(self) -> int:
        """How many jobs the shim has for this worker. Any thread."""
        return len(self._children)

    def spawn(self, request: SpawnRequest) -> None:
        """Request a process. request.began() or request.failed() is called later, never within this call."""
        if self._closed:
            self._reactor.callLater(0, request.failed, OSError(errno.ECONNRESET, "the shim has ended", "shim"))
            return
        self._waiting.append(request)
        self._send_next()

    def adopt(self, job_id: str, child: Child) -> None:
        """From now on `child` gets the exit of this job's process, which an earlier worker started."""
        self._children[job_id] = child

    def enforce(self, job_id: str, reason: str, kill_at: float) -> None:
        """What the shim is to enforce if this worker dies: KILL at that time of the monotonic clock."""
        self._send({"type": "enforce", "job": job_id, "reason": reason, "kill_at": kill_at})

    def resize(self, job_id: str, rows: int, columns: int) -> None:
        """Give a job's terminal that size."""
        self._send({"type": "resize", "job": job_id, "rows": rows, "columns": columns})

    def feed(self, job_id: str, file: int | None, end: bool) -> None:
        """Further bytes of the job's stdin, in a file (None: none), then its end if `end`. Answered by Child.fed()."""
        self._send({"type": "feed", "job": job_id, "end": end}, [] if file is None else [file])

    def listen(self, descriptors: Sequence[int]) -> None:
        """Let workers connect to this bound socket from now on; the second descriptor: the state directory."""
        self._send({"type": "listen"}, descriptors)

    def release(self, job_id: str, keep: bool) -> None:
        """The job's end is written down: its process may be reaped. keep: its leftovers may go on printing."""
        self._children.pop(job_id, None)
        if keep:
            self._send({"type": "release", "jobs": [job_id], "keep": True})
        elif not self._closed:
            self._released.append(job_id)
            if self._releasing is None:
                self._releasing = self._reactor.callLater(_RELEASE_SECONDS, self._release_now)

    def close(self, leave: bool = True) -> None:
        """Disconnect. The shim keeps its jobs, or ends if it has none. leave=False: it kills what is being started."""
        self._send_released()
        if not leave:
            self._send({"type": "forget"})
        self._end()
        self._fail_starts(OSError(errno.EPIPE, "the worker is stopping", "shim"))

    def fileno(self) -> int:
        """Twisted: the watched descriptor."""
        return self._channel.fileno()

    def doRead(self) -> None:
        """Twisted: messages can be received."""
        for _ in range(_MESSAGES_PER_TURN):
            if self._closed:
                return
            try:
                message, descriptors = self._channel.receive()
            except BlockingIOError:
                return
            except OSError:
                self._shim_ended()
                return
            with self._log.failuresHandled("handling the shim's message {message}", message=message.get("type")):
                self._received(message, descriptors)

    def connectionLost(self, reason: Failure) -> None:
        """Twisted: the shim has hung up."""
        self._shim_ended()

    def logPrefix(self) -> str:
        """Twisted: the name in Twisted's log."""
        return "txworker.process"

    def _received(self, message: Message, descriptors: list[int]) -> None:
        job_id = message.get("job", "")
        if message["type"] == "exited":
            child = self._children.get(job_id)
            if child is not None:
                child.exited(message["exit"])
        elif message["type"] == "fed":
            child = self._children.get(job_id)
            if child is not None:
                child.fed(message["stdin"])
        elif message["type"] == "started":
            self._began(self._answered(job_id), message, descriptors)
        elif message["type"] == "failed":
            self._failed(self._answered(job_id), message)

    def _answered(self, job_id: str) -> SpawnRequest | None:
        start = self._in_flight.pop(job_id, None)
        if self._recall is not None:
            self._recall.cancel()
            self._recall = None
        self._recalled = False
        self._send_next()
        return start

    def _began(self, start: SpawnRequest | None, message: Message, descriptors: list[int]) -> None:
        if start is None:
            for fd in descriptors:
                os.close(fd)
            return
        self._children[message["job"]] = start.began(message["pid"], descriptors, message)

    def _failed(self, start: SpawnRequest | None, message: Message) -> None:
        if start is None:
            return
        if message["step"] == RECALLED:
            self._waiting.appendleft(start)
            self._send_next()
            return
        number = message["errno"]
        start.failed(OSError(number, os.strerror(number), message["step"] or None))

    def _send_next(self) -> None:
        """Send waiting requests. While a start hangs they stay here, where they can still be dropped."""
        while self._waiting and len(self._in_flight) < IN_FLIGHT and not self._recalled and not self._closed:
            start = self._waiting.popleft()
            try:
                start.check()
                self._in_flight[start.message["job"]] = start
                released, self._released = self._released, []
                self._channel.send({**start.message, "release": released}, start.descriptors)
            except Exception as error:  # from check(), or from the socket when the shim is gone
                self._in_flight.pop(start.message["job"], None)
                if isinstance(error, ConnectionError):
                    error = OSError(error.errno, "the shim has ended", "shim")
                self._reactor.callLater(0, start.failed, error)
        self._flush_later()
        if self._in_flight and self._recall is None and not self._recalled and not self._closed:
            self._recall = self._reactor.callLater(RECALL_SECONDS, self._recall_others)

    def _recall_others(self) -> None:
        """The first of the requests in flight hangs: recall those behind it."""
        self._recall = None
        self._recalled = True
        if len(self._in_flight) > 1:
            self._send({"type": "recall"})

    def _send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        if self._closed:
            return
        try:
            self._channel.send(message, descriptors)
        except OSError:
            return  # the shim is gone, which doRead() finds out
        self._flush_later()

    def _release_now(self) -> None:
        self._releasing = None
        self._send_released()

    def _send_released(self) -> None:
        released, self._released = self._released, []
        if released:
            self._send({"type": "release", "jobs": released, "keep": False})

    def _flush_later(self) -> None:
        if self._channel.full and self._flush is None and not self._closed:
            self._flush = self._reactor.callLater(_FLUSH_SECONDS, self._flush_now)

    def _flush_now(self) -> None:
        self._flush = None
        try:
            self._channel.flush()
        except OSError:
            return
        self._flush_later()

    def _shim_ended(self) -> None:
        if self._closed:
            return
        self._end()
        unanswered = list(self._in_flight)
        self._fail_starts(OSError(errno.ECONNRESET, "the shim has ended", "shim"))
        self._lost(unanswered)

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
