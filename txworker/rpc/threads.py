"""The threads that RPCs run in: made when needed, retired when idle, never in the way of the process's end."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, TypeVar

T = TypeVar("T")

Work = tuple["Future[Any]", Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class RpcThreads(Executor):
    """
    At most `most` daemon threads; one that had nothing to do for idle_seconds ends.

    concurrent.futures' own pool never gives a thread back and keeps the interpreter from exiting while one is
    busy, which a daemon that must end in bounded time cannot have. Work is put into the hands of the thread that
    became idle last, which costs one lock; the others stay asleep until they retire.
    """

    def __init__(self, most: int, idle_seconds: float = 5.0) -> None:
        self._most = most
        self._idle_seconds = idle_seconds
        self._lock = threading.Lock()
        self._waiting: deque[Work] = deque()
        self._idle: list[_Thread] = []
        self._threads = 0

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Run fn in one of the threads. Any thread; never blocks."""
        future: Future[T] = Future()
        work = (future, fn, args, kwargs)
        with self._lock:
            if self._idle:
                self._idle.pop().give(work)
            elif self._threads < self._most:
                self._threads += 1
                threading.Thread(target=self._run, args=(_Thread(), work), name="txworker-rpc", daemon=True).start()
            else:
                self._waiting.append(work)
        return future

    def _run(self, thread: _Thread, work: Work | None) -> None:
        while work is not None:
            _perform(*work)
            work = None  # nothing of a finished RPC is kept alive by an idle thread
            work = self._next(thread)

    def _next(self, thread: _Thread) -> Work | None:
        with self._lock:
            if self._waiting:
                return self._waiting.popleft()
            self._idle.append(thread)
        work = thread.take(self._idle_seconds)
        if work is None:
            with self._lock:
                if thread in self._idle:
                    self._idle.remove(thread)
                    self._threads -= 1
                    return None
            work = thread.take(-1)  # it was given some at the last moment
        return work


class _Thread:
    """One thread's hands."""

    __slots__ = ("_bell", "_work")

    def __init__(self) -> None:
        self._bell = threading.Lock()
        self._bell.acquire()
        self._work: Work | None = None

    def give(self, work: Work) -> None:
        """Any thread, once for each take()."""
        self._work = work
        self._bell.release()

    def take(self, within_seconds: float) -> Work | None:
        """What it is given, or None when the time is over; negative: without limit."""
        if not self._bell.acquire(timeout=within_seconds):
            return None
        work, self._work = self._work, None
        return work


def _perform(future: Future[T], fn: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(fn(*args, **kwargs))
    except BaseException as error:  # whatever it is belongs to whoever holds the future
        future.set_exception(error)
