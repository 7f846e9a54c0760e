"""One way to use the blocking client and asyncio's: what the tests of both ask is a Future."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

from tests.client.scripted_worker import LIMIT
from txworker.client import AsyncClient, Client


class BlockingDriver:
    """Uses a Client from a thread."""

    def __init__(self, addr: str, **options: Any) -> None:
        self._client = Client(addr, **options)
        self._threads = ThreadPoolExecutor(4)

    def ask(self, method: str, *args: Any, **more: Any) -> Future[Any]:
        """The result of a method, or the list of what it yields."""
        return self._threads.submit(_result_of, partial(getattr(self._client, method), *args, **more))

    def ask_of(self, job_id: str, lease: float, method: str) -> Future[Any]:
        """The same of a job's handle."""

        return self._threads.submit(lambda: _result_of(getattr(self._client.job(job_id, lease), method)))

    def first(self, method: str, *args: Any) -> Any:
        """What it yields first; then it is closed."""
        generator = getattr(self._client, method)(*args)
        found = next(generator)
        generator.close()
        return found

    def first_and_close(self, method: str, *args: Any) -> Future[Any]:
        """The client is closed between the first thing that is yielded and the next one."""
        generator = getattr(self._client, method)(*args)
        next(generator)
        self._client.close()
        return self._threads.submit(next, generator)

    def text(self, job_id: str) -> list[str]:
        """The job's text, piece by piece."""
        return list(self._client.job(job_id).text())

    def close(self) -> None:
        """Close the client."""
        self._client.close()

    def end(self) -> None:
        """Close the client, and the threads."""
        self._client.close()
        self._threads.shutdown()


class AsyncioDriver:
    """Uses an AsyncClient in a loop that runs in a thread."""

    def __init__(self, addr: str, **options: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

        async def make_client() -> AsyncClient:
            return AsyncClient(addr, **options)

        self._client = self._soon(make_client()).result(LIMIT)

    def _soon(self, coroutine: Any) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def ask(self, method: str, *args: Any, **more: Any) -> Future[Any]:
        """The result of a method, or the list of what it yields."""

        return self._soon(_async_result_of(partial(getattr(self._client, method), *args, **more)))

    def ask_of(self, job_id: str, lease: float, method: str) -> Future[Any]:
        """The same of a job's handle."""

        return self._soon(_async_result_of(lambda: getattr(self._client.job(job_id, lease), method)()))

    def first(self, method: str, *args: Any) -> Any:
        """What it yields first; then it is closed."""

        async def read_first() -> Any:
            generator = getattr(self._client, method)(*args)
            found = await anext(generator)
            await generator.aclose()
            return found

        return self._soon(read_first()).result(LIMIT)

    def first_and_close(self, method: str, *args: Any) -> Future[Any]:
        """The client is closed between the first thing that is yielded and the next one."""

        async def read_and_close() -> Any:
            generator = getattr(self._client, method)(*args)
            await anext(generator)
            await self._client.close()
            return await anext(generator)

        return self._soon(read_and_close())

    def text(self, job_id: str) -> list[str]:
        """The job's text, piece by piece."""

        found: list[str] = self._soon(_async_result_of(lambda: self._client.job(job_id).text())).result(LIMIT)
        return found

    def close(self) -> None:
        """Close the client."""
        self._soon(self._client.close()).result(LIMIT)

    def end(self) -> None:
        """Close the client, and the loop; no task is left in it."""
        self.close()

        async def end_generators() -> int:
            """Returns how many tasks are left."""
            await self._loop.shutdown_asyncgens()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            return len((await asyncio.wait(others, timeout=LIMIT))[1]) if others else 0

        tasks = self._soon(end_generators()).result(LIMIT)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        assert tasks == 0


def _result_of(call: Callable[[], Any]) -> Any:
    result = call()
    return list(result) if inspect.isgenerator(result) else result


async def _async_result_of(call: Callable[[], Any]) -> Any:
    """The call is made in the client's loop."""
    result = call()
    return [one async for one in result] if inspect.isasyncgen(result) else await result
