"""
The client for Twisted: the same methods as sync.Client, each of which returns a Deferred.

gRPC has no event loop in common with Twisted, so an AsyncClient runs in a thread of its own, and its results come back
to the reactor.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from txworker.client.aio import AsyncClient
from txworker.client.requests import StartDetails
from txworker.client.values import JobRecord, JobResult

if TYPE_CHECKING:
    from typing_extensions import Unpack  # typing has it from Python 3.11 on; type checkers bring it

T = TypeVar("T")


class TwistedClient:
    """
    Takes a reactor, and then what AsyncClient takes; `tell` is called in the reactor thread. Reactor thread only.

    Cancelling a Deferred ends its call, and nothing else: a job that was started runs on. close() must be called: until
    then a thread of the client's runs.
    """

    def __init__(self, reactor: Any, addr: str, **options: Any) -> None:
        self._reactor = reactor
        if "tell" in options:
            tell = options["tell"]
            options["tell"] = lambda sentence: reactor.callFromThread(tell, sentence)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="txworker-client", daemon=True)
        self._thread.start()
        self._client = asyncio.run_coroutine_threadsafe(_made(addr, options), self._loop).result()

    def close(self) -> Deferred[None]:
        """End all calls, the connection and the thread; fires when that is done. Jobs run on."""
        closed: Deferred[None] = self._fires_with(self._client.close())
        return closed.addBoth(self._end)

    def start(self, command: str, path: str = "", **details: Unpack[StartDetails]) -> Deferred[str]:
        """As Client.start(); fires with the job's id."""

        async def started() -> str:
            return (await self._client.start(command, path, **details)).id

        return self._fires_with(started())

    def run(self, command: str, path: str = "", **details: Unpack[StartDetails]) -> Deferred[tuple[JobResult, bytes]]:
        """As Client.run()."""
        return self._fires_with(self._client.run(command, path, **details))

    def get(self, job_id: str) -> Deferred[JobRecord]:
        """As Client.get()."""
        return self._fires_with(self._client.get(job_id))

    def stop(self, job_id: str, grace: float | None = None, wait: bool = False) -> Deferred[JobRecord]:
        """As Client.stop()."""
        return self._fires_with(self._client.stop(job_id, grace, wait))

    def wait(self, job_id: str, timeout: float | None = None) -> Deferred[JobResult]:
        """As Client.wait()."""
        return self._fires_with(self._client.wait(job_id, timeout))

    def jobs(self, labels: Mapping[str, str] | None = None) -> Deferred[list[JobRecord]]:
        """As Client.jobs(), all at once."""

        async def listed() -> list[JobRecord]:
            return [record async for record in self._client.jobs(labels=labels)]

        return self._fires_with(listed())

    def follow(
        self,
        job_id: str,
        received: Callable[[bytes], object],
        offset: int = 0,
        *,
        stderr: bool = False,
        tail: int | None = None,
    ) -> Deferred[None]:
        """
        As Client.follow(): received(data) hears what the job prints, in the reactor thread; fires once all of it was
        heard. No more is read than was heard.
        """

        async def followed() -> None:
            async for data in self._client.follow(job_id, offset, stderr=stderr, tail=tail):
                await self._heard(received, data)

        return self._fires_with(followed())

    def watch(
        self,
        received: Callable[[JobRecord], object],
        job_ids: list[str] | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Deferred[None]:
        """As Client.watch(): received(record) hears each change; fires when all jobs that were named are done."""

        async def watched() -> None:
            async for record in self._client.watch(job_ids or (), labels):
                await self._heard(received, record)

        return self._fires_with(watched())

    async def _heard(self, received: Callable[[Any], object], what: Any) -> None:
        heard: Future[None] = Future()

        def hear() -> None:
            try:
                received(what)
            except BaseException as error:
                heard.set_exception(error)
            else:
                heard.set_result(None)

        self._reactor.callFromThread(hear)
        await asyncio.wrap_future(heard)

    def _fires_with(self, coroutine: Coroutine[Any, Any, T]) -> Deferred[T]:
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)

        def cancel(_: object) -> None:
            future.cancel()

        result: Deferred[T] = Deferred(cancel)

        def done() -> None:
            if not result.called:  # or it was cancelled meanwhile
                _fire(result, future)

        future.add_done_callback(lambda _: self._reactor.callFromThread(done))
        return result

    def _end(self, result: object) -> object:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        return result


async def _made(addr: str, options: Mapping[str, Any]) -> AsyncClient:
    """Within the loop, as gRPC wants it."""
    return AsyncClient(addr, **options)


def _fire(result: Deferred[T], future: Future[T]) -> None:
    error = None if future.cancelled() else future.exception()
    if future.cancelled():
        result.cancel()
    elif error is not None:
        result.errback(Failure(error))
    else:
        result.callback(future.result())
