"""The threads that RPCs run in: made when needed, retired when idle, never in the way of the process's end."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, TypeVar

T = TypeVar("T")


class RpcThreads(Executor):
    """
    At most `most` daemon threads; one that had nothing to do for idle_seconds ends.

    concurrent.futures' own pool never gives a thread back and keeps the interpreter from exiting while one is
    busy, which a daemon that must end in bounded time cannot have.
    """

    def __init__(self, most: int, idle_seconds: float = 5.0) -> None:
        self._most = most
        self._idle_seconds = idle_seconds
        self._ready = threading.Condition()
        self._work: deque[Callable[[], None]] = deque()
        self._threads = 0
        self._idle = 0

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Run fn in one of the threads. Any thread; never blocks."""
        future: Future[T] = Future()
        with self._ready:
            self._work.append(lambda: _perform(future, fn, args, kwargs))
            if self._idle >= len(self._work):
                self._ready.notify()
            elif self._threads < self._most:
                self._threads += 1
                threading.Thread(target=self._run, name="txworker-rpc", daemon=True).start()
        return future

    def _run(self) -> None:
        while (work := self._next()) is not None:
            work()
            del work  # nothing of a finished RPC is kept alive by an idle thread

    def _next(self) -> Callable[[], None] | None:
        with self._ready:
            while not self._work:
                self._idle += 1
                woken = self._ready.wait(self._idle_seconds)
                self._idle -= 1
                if not woken and not self._work:
                    self._threads -= 1
                    return None
            return self._work.popleft()


def _perform(future: Future[T], fn: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(fn(*args, **kwargs))
    except BaseException as error:  # whatever it is belongs to whoever holds the future
        future.set_exception(error)
