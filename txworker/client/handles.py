"""Handles, each for one job of a worker: for the blocking client, and for asyncio's."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Generator
from contextlib import aclosing, closing
from typing import TYPE_CHECKING

from txworker.client.feeding import Source
from txworker.client.reading import decoder
from txworker.client.values import JobRecord, JobResult

if TYPE_CHECKING:  # they make the handles
    from txworker.client.aio import AsyncClient
    from txworker.client.sync import Client


class Job:
    """
    One job of a client's worker, by its `id`. Any thread.

    lease: the seconds that it was started with; follow(), text() and wait() renew it. None: it has none, or none is
    renewed.
    """

    def __init__(self, client: Client, job_id: str, lease: float | None = None) -> None:
        self.id = job_id
        self.lease = lease
        self._client = client

    def __repr__(self) -> str:
        return f"<job {self.id} of {self._client.addr}>"

    def record(self) -> JobRecord:
        """The record of the job now."""
        return self._client.get(self.id)

    def follow(
        self, offset: int = 0, *, stderr: bool = False, tail: int | None = None, live: bool = True
    ) -> Generator[bytes, None, None]:
        """As `Client.follow`; the lease is renewed from the first byte that is asked for until the generator ends."""
        with self._client.renewing(self.id, self.lease):
            yield from self._client.follow(self.id, offset, stderr=stderr, tail=tail, live=live)

    def text(
        self, offset: int = 0, *, stderr: bool = False, tail: int | None = None, live: bool = True
    ) -> Generator[str, None, None]:
        """As `Job.follow`, decoded as UTF-8, in pieces of any length; invalid UTF-8 becomes U+FFFD."""
        decode = decoder().decode
        with closing(self.follow(offset, stderr=stderr, tail=tail, live=live)) as chunks:
            yield from filter(None, map(decode, chunks))
        if rest := decode(b"", final=True):
            yield rest

    def wait(self, timeout: float | None = None) -> JobResult:
        """As `Client.wait`; the lease is renewed meanwhile."""
        with self._client.renewing(self.id, self.lease):
            return self._client.wait(self.id, timeout)

    def stop(self, grace: float | None = None, wait: bool = False) -> JobRecord:
        """As `Client.stop`."""
        return self._client.stop(self.id, grace, wait)

    def signal(self, number: int) -> None:
        """As `Client.signal`."""
        self._client.signal(self.id, number)

    def feed(self, source: Source, *, end: bool = True) -> int:
        """As `Client.feed`."""
        return self._client.feed(self.id, source, end=end)

    def resize(self, rows: int, columns: int) -> None:
        """As `Client.resize`."""
        self._client.resize(self.id, rows, columns)


class AsyncJob:
    """One job of a client's worker; `lease` is as in `Job`."""

    def __init__(self, client: AsyncClient, job_id: str, lease: float | None = None) -> None:
        self.id = job_id
        self.lease = lease
        self._client = client

    def __repr__(self) -> str:
        return f"<job {self.id} of {self._client.addr}>"

    async def record(self) -> JobRecord:
        """The record of the job now."""
        return await self._client.get(self.id)

    async def follow(
        self, offset: int = 0, *, stderr: bool = False, tail: int | None = None, live: bool = True
    ) -> AsyncGenerator[bytes, None]:
        """As `Job.follow`."""
        with self._client.renewing(self.id, self.lease):
            async with aclosing(self._client.follow(self.id, offset, stderr=stderr, tail=tail, live=live)) as chunks:
                async for data in chunks:
                    yield data

    async def text(
        self, offset: int = 0, *, stderr: bool = False, tail: int | None = None, live: bool = True
    ) -> AsyncGenerator[str, None]:
        """As `Job.text`."""
        decode = decoder().decode
        async with aclosing(self.follow(offset, stderr=stderr, tail=tail, live=live)) as chunks:
            async for data in chunks:
                if piece := decode(data):
                    yield piece
        if rest := decode(b"", final=True):
            yield rest

    async def wait(self, timeout: float | None = None) -> JobResult:
        """As `Job.wait`."""
        with self._client.renewing(self.id, self.lease):
            return await self._client.wait(self.id, timeout)

    async def stop(self, grace: float | None = None, wait: bool = False) -> JobRecord:
        """As `Client.stop`."""
        return await self._client.stop(self.id, grace, wait)

    async def signal(self, number: int) -> None:
        """As `Client.signal`."""
        await self._client.signal(self.id, number)

    async def feed(self, source: Source | AsyncIterable[bytes], *, end: bool = True) -> int:
        """As `AsyncClient.feed`."""
        return await self._client.feed(self.id, source, end=end)

    async def resize(self, rows: int, columns: int) -> None:
        """As `Client.resize`."""
        await self._client.resize(self.id, rows, columns)
