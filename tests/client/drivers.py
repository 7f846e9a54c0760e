"""One way to use the blocking client and asyncio's: what the tests of both ask is a Future."""

from __future__ import annotations

import asyncio
import inspect
import threading
from concurrent.futures import Future, ThreadPoolExecutor
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
        return self._threads.submit(self._asked, method, args, more)

    def _asked(self, method: str, args: Any, more: Any) -> Any:
        result = getattr(self._client, method)(*args, **more)
        return list(result) if inspect.isgenerator(result) else result

    def ask_of(self, job_id: str, lease: float, method: str) -> Future[Any]:
        """The same of a job's handle."""

        def asked() -> Any:
            result = getattr(self._client.job(job_id, lease), method)()
            return list(result) if inspect.isgenerator(result) else result

        return self._threads.submit(asked)

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

        async def made() -> AsyncClient:
            return AsyncClient(addr, **options)

        self._client = self._soon(made()).result(LIMIT)

    def _soon(self, coroutine: Any) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def ask(self, method: str, *args: Any, **more: Any) -> Future[Any]:
        """The result of a method, or the list of what it yields."""

        async def asked() -> Any:
            result = getattr(self._client, method)(*args, **more)
            return [one async for one in result] if inspect.isasyncgen(result) else await result

        return self._soon(asked())

    def ask_of(self, job_id: str, lease: float, method: str) -> Future[Any]:
        """The same of a job's handle."""

        async def asked() -> Any:
            result = getattr(self._client.job(job_id, lease), method)()
            return [one async for one in result] if inspect.isasyncgen(result) else await result

        return self._soon(asked())

    def first(self, method: str, *args: Any) -> Any:
        """What it yields first; then it is closed."""

        async def asked() -> Any:
            generator = getattr(self._client, method)(*args)
            found = await anext(generator)
            await generator.aclose()
            return found

        return self._soon(asked()).result(LIMIT)

    def first_and_close(self, method: str, *args: Any) -> Future[Any]:
        """The client is closed between the first thing that is yielded and the next one."""

        async def asked() -> Any:
            generator = getattr(self._client, method)(*args)
            await anext(generator)
            await self._client.close()
            return await anext(generator)

        return self._soon(asked())

    def text(self, job_id: str) -> list[str]:
        """The job's text, piece by piece."""

        async def asked() -> list[str]:
            return [piece async for piece in self._client.job(job_id).text()]

        found: list[str] = self._soon(asked()).result(LIMIT)
        return found

    def close(self) -> None:
        """Close the client."""
        self._soon(self._client.close()).result(LIMIT)

    def end(self) -> None:
        """Close the client, and the loop; no task is left in it."""
        self.close()

        async def left() -> int:
            await self._loop.shutdown_asyncgens()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            return len((await asyncio.wait(others, timeout=LIMIT))[1]) if others else 0

        tasks = self._soon(left()).result(LIMIT)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        assert tasks == 0
