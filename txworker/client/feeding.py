"""
Feeds a job's stdin: keeps what was sent until the worker has acknowledged it, so that it can be sent again.

A call tells how much was taken only when it is answered, so each sends CALL_BYTES at most, which are kept until then.
After a lost connection the worker is asked for its total, which says where to go on.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import Protocol

from txworker.client.errors import FeedInProgress, OutOfResources, WorkerError
from txworker.client.parameters import TRUE_OR_FALSE, check_type
from txworker.client.requests import id_of
from txworker.pb import worker_pb2 as pb

MESSAGE_BYTES = 256 * 1024
CALL_BYTES = 4 * 1024 * 1024


class Readable(Protocol):
    """A file in binary mode. Where it has read1(), that is used instead: it does not wait for `size` bytes."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; b"" at the end. May block."""


Source = bytes | bytearray | memoryview | Readable | Iterable[bytes]
"""What a job is fed with."""


def check_source(source: object, *also: str) -> None:
    """
    Check what can be known of a source before anything is read of it. also: methods that make it one, too.

    Raises:
        TypeError: it is text, or nothing that can be read. The error does not show it, because it may be a secret.
    """
    methods = ("read", "__iter__", "__getitem__", *also)
    if isinstance(source, str) or not any(hasattr(source, method) for method in methods):
        raise TypeError(f"source must be bytes, a file in binary mode or an iterable of bytes, not {_type(source)}")


def _type(value: object) -> str:
    return type(value).__name__


def pieces(source: Source) -> Iterator[bytes]:
    """
    Split a source into pieces that fit into a message; each piece comes as soon as it is available.

    Raises:
        TypeError: it gives something else than bytes, as a file in text mode does.
    """
    if isinstance(source, (bytes, bytearray, memoryview)):
        source = (bytes(source),)
    read = getattr(source, "read1", getattr(source, "read", None))
    blocks: Iterable[bytes] = source if read is None else iter(lambda: read(MESSAGE_BYTES), b"")  # type: ignore[assignment]  # then it is an iterable
    for block in blocks:
        if not isinstance(block, (bytes, bytearray, memoryview)):
            raise TypeError(f"a job is fed with bytes, not with {_type(block)}; open files in binary mode")
        for begin in range(0, len(block), MESSAGE_BYTES):
            yield block[begin : begin + MESSAGE_BYTES]


async def async_pieces(source: Source | AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """As pieces(); a source that may block is read in a thread."""
    if isinstance(source, AsyncIterable):
        async for block in source:
            for piece in pieces(block):
                yield piece
    else:
        iterator = pieces(source)
        while piece := await asyncio.to_thread(next, iterator, b""):
            yield piece


class Unacknowledged:
    """
    The bytes of one feeding that the worker has not acknowledged. No I/O, no lock; one call at a time.

    taken: how many bytes of this feeding the job has certainly taken. end: close the stdin after the last one.

    Raises:
        TypeError: the job's id is not a string, or `end` neither True nor False.
    """

    def __init__(self, job_id: str, end: bool) -> None:
        self.job_id = id_of(job_id)
        self.taken = 0
        check_type("end", TRUE_OR_FALSE, end, int)
        self._end = end
        self._pieces: deque[bytearray] = deque()
        self._size = 0
        self._next = 0
        self._sent = 0
        self._total: int | None = None
        self._no_more = self._complete = self._end_sent = False

    @property
    def begun(self) -> bool:
        """The worker has answered once."""
        return self._total is not None

    @property
    def full(self) -> bool:
        """No more bytes should be added before some are taken."""
        return self._size >= CALL_BYTES

    def add(self, data: bytes) -> None:
        """Add at most a message's worth of bytes; small pieces that were not sent yet are joined into one message."""
        if self._next < len(self._pieces) and len(self._pieces[-1]) + len(data) <= MESSAGE_BYTES:
            self._pieces[-1] += data
        else:
            self._pieces.append(bytearray(data))
        self._size += len(data)

    def no_more(self) -> None:
        """All bytes were added."""
        self._no_more = True

    def resume(self, total: int) -> None:
        """The worker tells how much all calls together have taken: the next call begins there."""
        if self._total is not None:
            self._drop(total - self._total)
        self._total = total
        self._next = self._sent = 0
        self._complete = self._end_sent = False

    def message(self) -> pb.FeedJobReq | None:
        """The call's next message; None: wait for more bytes. Must not be called once complete() is true."""
        if self._next < len(self._pieces):
            data = bytes(self._pieces[self._next])
            self._next += 1
            self._sent += len(data)
            self._complete = self._sent >= CALL_BYTES
            return pb.FeedJobReq(data=data)
        if self._no_more:
            self._complete = self._end_sent = True
            return pb.FeedJobReq(end=self._end)
        return None

    def complete(self) -> bool:
        """Whether the call's last message was returned."""
        return self._complete

    def answered(self, total: int) -> bool:
        """The call was answered. Returns whether another one is needed."""
        was_complete, sent, before, end_sent = self._complete, self._sent, self._total or 0, self._end_sent
        self.resume(total)
        if not was_complete or total - before < sent:  # the job has closed its stdin, or ended
            return False
        return not end_sent

    def _drop(self, count: int) -> None:
        count = max(0, min(count, self._size))
        self.taken += count
        self._size -= count
        while count and count >= len(self._pieces[0]):
            count -= len(self._pieces.popleft())
        if count:
            del self._pieces[0][:count]


class Patience:
    """
    How long a feeding waits for room on the worker; and, once it has begun, for its own earlier call, of which the
    worker has not yet noticed the loss. A caller could not begin again: a part of its source was read.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._since: float | None = None

    def failure(self, error: WorkerError, begun: bool, now: float) -> WorkerError:
        """The error as one that is worth a retry, if it is one of those; otherwise the error itself."""
        if not (isinstance(error, OutOfResources) or (begun and isinstance(error, FeedInProgress))):
            self._since = None
            return error
        if self._since is None:
            self._since = now
        return error if now - self._since >= self._seconds else WorkerError(str(error), code="UNAVAILABLE")
