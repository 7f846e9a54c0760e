"""The client for asyncio: the same methods as sync.Client, to be awaited. And its jobs. One event loop; no threads."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Mapping
from contextlib import AbstractContextManager, aclosing
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
import grpc.aio

from txworker.client.async_calls import AsyncCalls
from txworker.client.connection import DEFAULT_ADDR, TLS
from txworker.client.errors import JobNotRunning, NoSuchJob
from txworker.client.feeding import Patience, Source, Unacknowledged, async_pieces, check_source
from txworker.client.leases import RenewalTask
from txworker.client.outage import TimeLimit, done_now, is_over
from txworker.client.parameters import check_seconds
from txworker.client.reading import Changes, Reading, decoder
from txworker.client.requests import (
    id_of,
    ids_of,
    list_request,
    next_page,
    only_job,
    prefix_request,
    query_request,
    resize_request,
    signal_request,
    stop_request,
    watch_request,
)
from txworker.client.starts import StartDetails, start_request
from txworker.client.telling import tell_log
from txworker.client.values import JobRecord, JobResult, JobState, LiveUsage, record_of, usages_of
from txworker.pb import worker_pb2 as pb

if TYPE_CHECKING:
    from typing_extensions import Unpack  # typing has it from Python 3.11 on; type checkers bring it

T = TypeVar("T")


class AsyncClient:
    """
    As `Client`; its docstrings apply here, too. To be made and used within one event loop.

    Cancelling a task that waits here ends its call and nothing else: a job that was started runs on. A generator that
    is not read to its end should be closed (contextlib.aclosing); otherwise its call ends some time later.
    """

    def __init__(
        self,
        addr: str = DEFAULT_ADDR,
        *,
        tls: TLS | None = None,
        patience: float = 60.0,
        first_patience: float | None = None,
        deadline: float = 10.0,
        tell: Callable[[str], None] = tell_log,
    ) -> None:
        self.addr = addr
        self._calls = AsyncCalls(addr, tls, patience, first_patience, deadline, tell)
        self._stub = self._calls.stub
        self._leases = RenewalTask(self._renew_once, tell)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """End all calls and close the connection. Jobs run on. May be called again."""
        self._leases.close()
        await self._calls.close()

    async def start(self, command: str, path: str = "", **details: Unpack[StartDetails]) -> AsyncJob:
        """As `Client.start`."""
        request = start_request(command, path, details)
        answer = await self._calls.ask("starting a job", self._stub.StartJob, request)
        return AsyncJob(self, answer.jobID, details.get("lease"))

    async def run(self, command: str, path: str = "", **details: Unpack[StartDetails]) -> tuple[JobResult, bytes]:
        """As `Client.run`."""
        job = await self.start(command, path, **details)
        printed = b"".join([data async for data in job.follow()])
        return await job.wait(), printed

    async def get(self, job_id: str) -> JobRecord:
        """As `Client.get`."""
        what = f"job {job_id}"
        try:
            return record_of((await self._calls.ask(what, self._stub.QueryJob, query_request(job_id))).job)
        except NoSuchJob as missing:
            request = prefix_request(job_id, missing)
            whole = only_job(job_id, await self._calls.ask(what, self._stub.ListJobs, request))
            if not whole:
                raise
        return record_of((await self._calls.ask(what, self._stub.QueryJob, query_request(whole))).job)

    def job(self, job_id: str, lease: float | None = None) -> AsyncJob:
        """As `Client.job`."""
        return AsyncJob(self, job_id, lease)

    async def jobs(
        self,
        states: Iterable[JobState] = (),
        labels: Mapping[str, str] | None = None,
        *,
        limit: int = 0,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> AsyncGenerator[JobRecord, None]:
        """As `Client.jobs`."""
        request = list_request(states, labels, limit, since, until)
        left = limit
        while True:
            answer = await self._calls.ask("listing jobs", self._stub.ListJobs, request)
            for job in answer.jobs:
                yield record_of(job)
            left -= len(answer.jobs)
            if (limit and left <= 0) or not next_page(request, answer, max(left, 0)):
                return

    async def stop(self, job_id: str, grace: float | None = None, wait: bool = False) -> JobRecord:
        """As `Client.stop`."""
        await self._calls.ask(f"stopping job {job_id}", self._stub.StopJob, stop_request(job_id, grace, wait))
        return await self.wait(job_id) if wait else await self.get(job_id)

    async def signal(self, job_id: str, number: int) -> None:
        """As `Client.signal`."""
        self._calls.outage("")  # Closed
        try:
            once = partial(self._stub.SignalJob, wait_for_ready=True)
            await self._calls.open(once, signal_request(job_id, number), self._calls.deadline)
        except (grpc.aio.AioRpcError, asyncio.CancelledError) as error:
            raise self._calls.error(error) from error

    async def feed(self, job_id: str, source: Source | AsyncIterable[bytes], *, end: bool = True) -> int:
        """
        As `Client.feed`; the source may also be an async iterable, and a source that blocks is read in a thread. When
        the job takes no more, this does not wait for the source; but the end of the program and of asyncio.run() waits
        for the thread, which Python cannot interrupt: what may block for ever should be an async iterable.
        """
        check_source(source, "__aiter__")
        feeding = Unacknowledged(job_id, end)
        changed = asyncio.Condition()
        reading = asyncio.ensure_future(self._read_source(source, feeding, changed))
        try:
            await self._feed_all(feeding, changed, reading)
        finally:
            reading.cancel()
        return feeding.taken

    async def _read_source(self, source: Any, feeding: Unacknowledged, changed: asyncio.Condition) -> None:
        try:
            async with changed:  # nothing is read for a feeding that is refused
                await changed.wait_for(lambda: feeding.begun)
            async for piece in async_pieces(source):
                async with changed:
                    await changed.wait_for(lambda: not feeding.full)
                    feeding.add(piece)
                    changed.notify_all()
            feeding.no_more()
        finally:
            async with changed:
                changed.notify_all()

    async def _feed_all(
        self, feeding: Unacknowledged, changed: asyncio.Condition, reading: asyncio.Future[None]
    ) -> None:
        outage, patience = self._calls.outage(f"feeding job {feeding.job_id}"), Patience(self._calls.patience)
        known = False
        while True:
            try:
                if not known:
                    question = iter([pb.FeedJobReq(jobID=feeding.job_id)])
                    feeding.resume((await self._calls.open(self._stub.FeedJob, question, self._calls.deadline)).total)
                    self._calls.over(outage)
                    async with changed:
                        changed.notify_all()
                known = False
                total = await self._feed_once(feeding, changed, reading)
                known = True
                self._calls.over(outage)
                more = feeding.answered(total)
                async with changed:
                    changed.notify_all()
                if not more:
                    return
            except (grpc.aio.AioRpcError, asyncio.CancelledError) as error:  # noqa: PERF203  # each turn is an attempt
                failure = patience.failure(self._calls.error(error), feeding.begun, time.monotonic())
                if feeding.begun and isinstance(failure, JobNotRunning):
                    return
                await self._calls.reach(outage, failure, f"at byte {feeding.taken}")

    async def _feed_once(
        self, feeding: Unacknowledged, changed: asyncio.Condition, reading: asyncio.Future[None]
    ) -> int:
        """Make one call; returns how much the worker has taken in all. Raises what the source raises."""
        ended = asyncio.Event()
        call = self._calls.open(self._stub.FeedJob, _messages(feeding, changed, reading, ended))
        try:
            total: int = (await call).total
        finally:
            ended.set()
            call.cancel()
            async with changed:
                changed.notify_all()
        if reading.done():
            reading.result()
        return total

    async def resize(self, job_id: str, rows: int, columns: int) -> None:
        """As `Client.resize`."""
        request = resize_request(job_id, rows, columns)
        await self._calls.ask(f"resizing the terminal of job {job_id}", self._stub.ResizeJob, request)

    async def renew(self, job_ids: Iterable[str]) -> list[str]:
        """As `Client.renew`."""
        request = pb.RenewLeasesReq(jobIDs=ids_of(job_ids))
        return list((await self._calls.ask("renewing leases", self._stub.RenewLeases, request)).gone)

    def renewing(self, job_id: str, lease: float | None) -> AbstractContextManager[None]:
        """As `Client.renewing`, in a task; used with `with`, because it awaits nothing."""
        return self._leases.renewing(job_id, lease)

    async def usage(self, job_ids: Iterable[str] = ()) -> dict[str, LiveUsage]:
        """As `Client.usage`."""
        return usages_of(
            await self._calls.ask("usage of jobs", self._stub.JobUsage, pb.JobUsageReq(jobIDs=ids_of(job_ids)))
        )

    async def follow(
        self, job_id: str, offset: int = 0, *, stderr: bool = False, tail: int | None = None, live: bool = True
    ) -> AsyncGenerator[bytes, None]:
        """As `Client.follow`."""
        reading = Reading(job_id, offset, stderr, tail, live)
        outage = self._calls.outage(f"following job {job_id}")
        while True:
            call = self._calls.open(self._stub.StreamJob, reading.request())
            try:
                async for message in call:
                    self._calls.over(outage)
                    yield reading.take(message)
                return
            except (grpc.aio.AioRpcError, asyncio.CancelledError) as error:
                await self._calls.reach(outage, self._calls.error(error), f"at byte {reading.position}")
            finally:
                call.cancel()

    async def wait(self, job_id: str, timeout: float | None = None) -> JobResult:
        """As `Client.wait`."""
        if is_over(timeout):
            return done_now(await self.get(job_id), timeout or 0.0)
        async with aclosing(self.watch([id_of(job_id)], timeout=timeout)) as records:
            async for record in records:
                if isinstance(record, JobResult):
                    return record
        raise NoSuchJob(f"job {job_id} disappeared while it was waited for", "JOB_NOT_FOUND", "NOT_FOUND")

    async def watch(
        self, job_ids: Iterable[str] = (), labels: Mapping[str, str] | None = None, *, timeout: float | None = None
    ) -> AsyncGenerator[JobRecord, None]:
        """As `Client.watch`."""
        changes = Changes(watch_request(job_ids, labels))
        outage = self._calls.outage("watching jobs")
        limit = TimeLimit(timeout, time.monotonic)
        while True:
            call = self._calls.open(self._stub.WatchJobs, changes.request(), limit.left())
            try:
                async for event in call:
                    self._calls.over(outage)
                    record = changes.take(event)
                    if record is not None:
                        yield record
                return
            except (grpc.aio.AioRpcError, asyncio.CancelledError) as error:
                failure = self._calls.error(error)
                limit.check(failure)
                await self._calls.reach(outage, failure, "", limit)
            finally:
                call.cancel()

    async def _renew_once(self, job_ids: list[str]) -> Iterable[str]:
        request = pb.RenewLeasesReq(jobIDs=job_ids)
        try:
            answer: pb.RenewLeasesRes = await self._calls.open(self._stub.RenewLeases, request, self._calls.deadline)
        except (grpc.aio.AioRpcError, asyncio.CancelledError) as error:
            raise self._calls.error(error) from error
        return answer.gone


class AsyncJob:
    """One job of a client's worker; `lease` is as in `Job`."""

    def __init__(self, client: AsyncClient, job_id: str, lease: float | None = None) -> None:
        check_seconds("lease", lease)
        self.id = id_of(job_id)
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


async def _messages(
    feeding: Unacknowledged, changed: asyncio.Condition, reading: asyncio.Future[None], ended: asyncio.Event
) -> AsyncGenerator[pb.FeedJobReq, None]:
    """The messages of one call, until it has ended or the source fails."""
    yield pb.FeedJobReq(jobID=feeding.job_id)
    while not feeding.complete():
        async with changed:
            if ended.is_set() or (reading.done() and reading.exception()):
                return
            message = feeding.message()
            if message is None:
                await changed.wait()
                continue
        yield message
