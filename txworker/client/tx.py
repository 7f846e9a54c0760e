"""
The client for Twisted: the same methods as Client, each of which returns a Deferred.

gRPC has no event loop in common with Twisted, so an AsyncClient runs in a thread of its own, and its results come back
to the reactor.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterable, Mapping
from concurrent.futures import Future
from contextlib import aclosing
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure

from txworker.client.aio import AsyncClient
from txworker.client.connection import DEFAULT_ADDR, TLS
from txworker.client.errors import Closed
from txworker.client.feeding import Source
from txworker.client.parameters import check_callable
from txworker.client.starts import StartDetails
from txworker.client.telling import tell_log
from txworker.client.values import JobRecord, JobResult, JobState, LiveUsage

if TYPE_CHECKING:
    from typing_extensions import Unpack  # typing has it from Python 3.11 on; type checkers bring it

T = TypeVar("T")


class TwistedClient:
    """
    Takes a reactor, and then what `txworker.client.Client` takes; `tell` is called in the reactor thread. Reactor
    thread only.

    Cancelling a Deferred ends its call, and nothing else: a job that was started runs on. close() must be called: until
    then a thread of the client runs.
    """

    def __init__(
        self,
        reactor: Any,
        addr: str = DEFAULT_ADDR,
        *,
        tls: TLS | None = None,
        patience: float = 60.0,
        first_patience: float | None = None,
        deadline: float = 10.0,
        tell: Callable[[str], None] = tell_log,
    ) -> None:
        if not callable(getattr(reactor, "callFromThread", None)):
            raise TypeError(f"reactor must be a reactor of Twisted's, not {reactor!r}")
        check_callable("tell", tell)

        async def make_client() -> AsyncClient:  # within the loop, as gRPC wants it
            return AsyncClient(
                addr,
                tls=tls,
                patience=patience,
                first_patience=first_patience,
                deadline=deadline,
                tell=lambda sentence: reactor.callFromThread(tell, sentence),
            )

        self._reactor = reactor
        self._closing: list[Deferred[None]] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="txworker-client", daemon=True)
        self._thread.start()
        try:
            self._client = asyncio.run_coroutine_threadsafe(make_client(), self._loop).result()
        except BaseException:
            self._end_thread()
            raise

    def close(self) -> Deferred[None]:
        """
        End all calls, the connection and the thread; fires when that is done and every other Deferred of this client
        has fired. Jobs run on. May be called again.
        """
        if self._loop.is_closed():
            return succeed(None)
        closed: Deferred[None] = Deferred()
        self._closing.append(closed)
        if len(self._closing) == 1:
            self._fires_with(self._end()).addBoth(self._ended)
        return closed

    def start(self, command: str, path: str = "", **details: Unpack[StartDetails]) -> Deferred[str]:
        """As `Client.start`; fires with the job's id. If it is cancelled, the job may have been started or not."""

        async def start_job() -> str:
            return (await self._client.start(command, path, **details)).id

        return self._fires(start_job)

    def run(self, command: str, path: str = "", **details: Unpack[StartDetails]) -> Deferred[tuple[JobResult, bytes]]:
        """As `Client.run`."""
        return self._fires(lambda: self._client.run(command, path, **details))

    def get(self, job_id: str) -> Deferred[JobRecord]:
        """As `Client.get`."""
        return self._fires(lambda: self._client.get(job_id))

    def stop(self, job_id: str, grace: float | None = None, wait: bool = False) -> Deferred[JobRecord]:
        """As `Client.stop`."""
        return self._fires(lambda: self._client.stop(job_id, grace, wait))

    def signal(self, job_id: str, number: int) -> Deferred[None]:
        """As `Client.signal`."""
        return self._fires(lambda: self._client.signal(job_id, number))

    def feed(self, job_id: str, source: Source, *, end: bool = True) -> Deferred[int]:
        """
        As `Client.feed`; the source is read in a thread, and not awaited once the job is over. The end of the program
        waits for a thread that still reads.
        """
        return self._fires(lambda: self._client.feed(job_id, source, end=end))

    def resize(self, job_id: str, rows: int, columns: int) -> Deferred[None]:
        """As `Client.resize`."""
        return self._fires(lambda: self._client.resize(job_id, rows, columns))

    def renew(self, job_ids: Iterable[str]) -> Deferred[list[str]]:
        """As `Client.renew`."""
        return self._fires(lambda: self._client.renew(job_ids))

    def usage(self, job_ids: Iterable[str] = ()) -> Deferred[dict[str, LiveUsage]]:
        """As `Client.usage`."""
        return self._fires(lambda: self._client.usage(job_ids))

    def wait(self, job_id: str, timeout: float | None = None, *, lease: float | None = None) -> Deferred[JobResult]:
        """As `Client.wait`; lease: that of the job in seconds, which is renewed meanwhile."""

        async def wait_for_job() -> JobResult:
            return await self._client.job(job_id, lease).wait(timeout)

        return self._fires(wait_for_job)

    def jobs(
        self,
        states: Iterable[JobState] = (),
        labels: Mapping[str, str] | None = None,
        *,
        limit: int = 0,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Deferred[list[JobRecord]]:
        """As `Client.jobs`; fires with all of them."""

        async def list_jobs() -> list[JobRecord]:
            return [record async for record in self._client.jobs(states, labels, limit=limit, since=since, until=until)]

        return self._fires(list_jobs)

    def follow(
        self,
        job_id: str,
        received: Callable[[bytes], object],
        offset: int = 0,
        *,
        stderr: bool = False,
        tail: int | None = None,
        live: bool = True,
        lease: float | None = None,
    ) -> Deferred[None]:
        """
        As `Client.follow`: received(data) is called with what the job prints, in the reactor thread; fires after the
        last call. The next data is read when received() has returned; an exception of it ends the call.

        lease: that of the job in seconds, which is renewed meanwhile.
        """

        async def follow_output() -> None:
            check_callable("received", received)
            chunks = self._client.job(job_id, lease).follow(offset, stderr=stderr, tail=tail, live=live)
            async with aclosing(chunks):
                async for data in chunks:
                    await self._in_reactor(received, data)

        return self._fires(follow_output)

    def watch(
        self,
        received: Callable[[JobRecord], object],
        job_ids: Iterable[str] = (),
        labels: Mapping[str, str] | None = None,
        *,
        timeout: float | None = None,
    ) -> Deferred[None]:
        """As `Client.watch`: received(record) is called with each; fires when all named jobs are done."""

        async def watch_jobs() -> None:
            check_callable("received", received)
            records = self._client.watch(job_ids, labels, timeout=timeout)
            async with aclosing(records):
                async for record in records:
                    await self._in_reactor(received, record)

        return self._fires(watch_jobs)

    async def _in_reactor(self, received: Callable[[T], object], what: T) -> None:
        returned: Future[None] = Future()

        def pass_on() -> None:
            """Reactor thread. The client's loop waits for its result."""
            if not returned.set_running_or_notify_cancel():
                return  # the Deferred was cancelled meanwhile
            try:
                received(what)
            except BaseException as error:
                returned.set_exception(error)
            else:
                returned.set_result(None)

        self._reactor.callFromThread(pass_on)
        await asyncio.wrap_future(returned)

    def _fires(self, call: Callable[[], Coroutine[Any, Any, T]]) -> Deferred[T]:
        return fail(Closed()) if self._closing else self._fires_with(call())

    def _fires_with(self, coroutine: Coroutine[Any, Any, T]) -> Deferred[T]:
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)

        def cancel(_: object) -> None:
            future.cancel()

        result: Deferred[T] = Deferred(cancel)

        def fire() -> None:
            """Reactor thread."""
            if not result.called:  # or it was cancelled meanwhile
                _fire(result, future)

        future.add_done_callback(lambda _: self._reactor.callFromThread(fire))
        return result

    async def _end(self) -> None:
        """Nothing of the client is left in the loop after this."""
        await self._client.close()
        if others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others)
        await self._loop.shutdown_asyncgens()

    def _ended(self, result: Any) -> None:
        self._end_thread()
        for closed in self._closing:
            if not closed.called:
                closed.callback(result)

    def _end_thread(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def _fire(result: Deferred[T], future: Future[T]) -> None:
    error = None if future.cancelled() else future.exception()
    if future.cancelled():
        result.cancel()
    elif error is not None:
        result.errback(Failure(error))
    else:
        result.callback(future.result())
