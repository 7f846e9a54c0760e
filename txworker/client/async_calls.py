"""The calls of asyncio's client: they wait for a worker that cannot be reached, and end when it is closed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import grpc
import grpc.aio

from txworker.client.connection import TLS, open_channel
from txworker.client.errors import Closed, WorkerError, error_of, passes
from txworker.client.outage import NO_LIMIT, Outage, TimeLimit, waiting_times
from txworker.client.parameters import check_callable
from txworker.client.requests import PROBE
from txworker.pb.worker_pb2_grpc import WorkerStub

T = TypeVar("T")


class AsyncCalls:
    """As Calls, for an AsyncClient: the same methods, to be awaited. One event loop."""

    def __init__(
        self,
        addr: str,
        tls: TLS | None,
        patience: float,
        first_patience: float | None,
        deadline: float,
        tell: Callable[[str], None],
    ) -> None:
        self.patience, self._first_patience, self.deadline = waiting_times(patience, first_patience, deadline)
        check_callable("tell", tell)
        self._tell = tell
        self._closed = asyncio.Event()
        self._channel = open_channel(grpc.aio, addr, tls)
        self.stub: Any = WorkerStub(self._channel)  # the async one: its calls are awaited

    async def close(self) -> None:
        """As Calls.close()."""
        self._closed.set()
        await self._channel.close()

    async def ask(self, what: str, method: Callable[..., Awaitable[T]], request: Any) -> T:
        """As Calls.ask()."""
        outage = self.outage(what)
        outage.begin()
        while True:
            try:
                answer = await self.open(method, request, self.deadline)
            except (grpc.aio.AioRpcError, asyncio.CancelledError) as error:  # noqa: PERF203  # each turn is an attempt
                await self._pause(outage.failed(self.error(error)))
            else:
                self.over(outage)
                return answer

    async def reach(self, outage: Outage, failure: WorkerError, resuming: str, limit: TimeLimit = NO_LIMIT) -> None:
        """As Calls.reach()."""
        while True:
            await self._pause(limit.at_most(outage.failed(failure, resuming)))
            try:
                await self.open(self.stub.ListJobs, PROBE, limit.at_most(self.deadline))
            except (grpc.aio.AioRpcError, asyncio.CancelledError) as error:
                failure = self.error(error)
                if passes(failure):
                    continue
            self._first_patience = None
            outage.answered()
            return

    def open(self, method: Callable[..., T], request: Any, timeout: float | None = None) -> T:
        """Begin a call. The caller awaits it or iterates over it, and cancels it if it is a stream."""
        if self._closed.is_set():
            raise Closed
        return method(request, timeout=timeout)

    def outage(self, what: str) -> Outage:
        """As Calls.outage()."""
        if self._closed.is_set():
            raise Closed
        return Outage(what, self.patience, self._tell, time.monotonic, first_patience=self._first_patience)

    def over(self, outage: Outage) -> None:
        """The worker has answered."""
        self._first_patience = None
        outage.over()

    def error(self, error: BaseException) -> WorkerError:
        """
        The error of a call that failed. A closed channel cancels its calls, which looks as if their task was cancelled.

        Raises:
            asyncio.CancelledError: the task was cancelled.
            Closed: the client was closed.
        """
        if self._closed.is_set():
            raise Closed
        if not isinstance(error, grpc.aio.AioRpcError):
            raise error
        return error_of(error)

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._closed.wait(), seconds)
        except (TimeoutError, asyncio.TimeoutError):  # one class from Python 3.11 on
            return
        raise Closed
