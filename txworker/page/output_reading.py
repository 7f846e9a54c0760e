"""Parts of a job's output, never the whole: a range of bytes, and how many there are."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred

from txworker.client import JobRecord, OffsetBeyondEnd
from txworker.client.tx import TwistedClient

MOST_RANGE = 2**20
"""Bytes of one answer."""


class Enough(Exception):
    """Raised by a receiver that wants no more: it ends the call."""


async def read_range(client: TwistedClient, job_id: str, offset: int, limit: int, stderr: bool) -> bytes:
    """
    At most `limit` bytes from there on, of those that are there now; none where it ends before.

    Raises:
        WorkerError: the worker's, as of TwistedClient.follow.
    """
    data = bytearray()

    def received(piece: bytes) -> None:
        data.extend(piece)
        if len(data) >= limit:
            raise Enough

    try:
        await until_enough(client.follow(job_id, received, offset, stderr=stderr, live=False))
    except OffsetBeyondEnd:
        return b""
    return bytes(data[:limit])


async def output_size(client: TwistedClient, record: JobRecord, stderr: bool) -> int:
    """
    The bytes of stdout, or of the separate stderr. A record counts both together; which part belongs to which is
    found by halving: two dozen short calls for a gigabyte.

    Raises:
        WorkerError: the worker's, as of TwistedClient.follow.
    """
    if not record.message.separateStderr:
        return 0 if stderr else record.output_bytes
    low, high = 0, record.output_bytes
    while low < high:
        middle = (low + high) // 2
        if await read_range(client, record.id, middle, 1, stderr):
            low = middle + 1
        else:
            high = middle
    return low


async def until_enough(following: Deferred[None]) -> bool:
    """Waits for a call to end; True: because its receiver wanted no more."""
    try:
        await following
    except Enough:
        return True
    return False


class Batch:
    """
    Pieces of output, put together until flush: a job that prints a line every millisecond is no reason to wake a
    browser as often. take(offset, data) gets them.
    """

    def __init__(self, offset: int, take: Callable[[int, bytes], None]) -> None:
        self.position = offset
        self._pieces: list[bytes] = []
        self._size = 0
        self._take = take

    @property
    def size(self) -> int:
        """Bytes that are waiting."""
        return self._size

    def add(self, piece: bytes) -> None:
        """The next piece."""
        self._pieces.append(piece)
        self._size += len(piece)
        self.position += len(piece)

    def flush(self) -> None:
        """Hand over what there is."""
        if self._pieces:
            data, start = b"".join(self._pieces), self.position - self._size
            self._pieces, self._size = [], 0
            self._take(start, data)
