"""Reads parts of a job's output, never the whole: a range of bytes, and how many bytes there are."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred

from txworker.client import JobRecord, OffsetBeyondEnd
from txworker.client.tx import TwistedClient

MOST_RANGE = 2**20
"""The most bytes of one response."""


class Enough(Exception):
    """Raised by a receiver that wants no more data; it ends the call."""


async def read_range(client: TwistedClient, job_id: str, offset: int, limit: int, stderr: bool) -> bytes:
    """
    At most `limit` of the bytes from `offset` on that are recorded now; none if the output ends before it.

    Raises:
        WorkerError: as TwistedClient.follow().
    """
    data = bytearray()

    def keep(piece: bytes) -> None:
        data.extend(piece)
        if len(data) >= limit:
            raise Enough

    try:
        await until_enough(client.follow(job_id, keep, offset, stderr=stderr, live=False))
    except OffsetBeyondEnd:
        return b""
    return bytes(data[:limit])


async def output_size(client: TwistedClient, record: JobRecord, stderr: bool) -> int:
    """
    How many bytes stdout has, or the separate stderr. A record has only their sum, so the end of each is found by
    binary search: about thirty short calls for a gigabyte.

    Raises:
        WorkerError: as TwistedClient.follow().
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
    """Wait for a call to end; True: its receiver wanted no more."""
    try:
        await following
    except Enough:
        return True
    return False


class Batch:
    """
    Joins pieces of output until flush(), so that a job that prints a line every millisecond does not wake a browser as
    often. take(offset, data) gets what was joined.
    """

    def __init__(self, offset: int, take: Callable[[int, bytes], None]) -> None:
        self.position = offset
        self._pieces: list[bytes] = []
        self._size = 0
        self._take = take

    @property
    def size(self) -> int:
        """How many bytes wait for flush()."""
        return self._size

    def add(self, piece: bytes) -> None:
        """Add the piece that begins at `position`."""
        self._pieces.append(piece)
        self._size += len(piece)
        self.position += len(piece)

    def flush(self) -> None:
        """Pass on what was added; nothing if there is none."""
        if self._pieces:
            data, start = b"".join(self._pieces), self.position - self._size
            self._pieces, self._size = [], 0
            self._take(start, data)
