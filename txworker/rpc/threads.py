"""The threads that RPCs run in: made when needed, retired when idle, never in the way of the process's end."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextvars import Context, ContextVar
from typing import Any, TypeVar

from txworker.base.logs import Logger

T = TypeVar("T")

IS_ORDER: ContextVar[bool] = ContextVar("IS_ORDER", default=False)
"""Set in an RPC's context (gRPC's interceptors and handlers have one in common): it may have to wait for long."""

Work = tuple["Future[Any]", Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class RpcThreads(Executor):
    """
    At most `most` daemon threads; one that had nothing to do for idle_seconds ends, but for the last `least`.

    Those are made at once, so that a machine that has no thread left later still has these. At most most_orders threads
    are with orders at a time; further orders wait, and whoever is no order passes them.

    concurrent.futures' own pool never gives a thread back and keeps the interpreter from exiting while one is
    busy, which a daemon that must end in bounded time cannot have. Work is put into the hands of the thread that
    became idle last, which costs one lock; the others stay asleep until they retire.

    Raises:
        RuntimeError: not even the first threads can be made.
    """

    _log = Logger()

    def __init__(self, most: int, most_orders: int, least: int = 0, idle_seconds: float = 5.0) -> None:
        self._most = most
        self._most_orders = most_orders
        self._least = least
        self._idle_seconds = idle_seconds
        self._lock = threading.Lock()
        self._waiting: deque[Work] = deque()
        self._waiting_orders: deque[Work] = deque()
        self._idle: list[_Thread] = []
        self._threads = self._orders = 0
        self._short = False
        for _ in range(least):
            self._threads += 1
            self._start(None)

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Run fn in one of the threads. Any thread; never blocks, and never raises: gRPC's serving thread would end."""
        future: Future[T] = Future()
        self.take((future, fn, args, kwargs))
        return future

    def take(self, work: Work) -> None:
        """As submit(), for who has a future already."""
        with self._lock:
            if self._may_begin(work):
                if self._idle:
                    self._idle.pop().give(work)
                    return
                if self._threads < self._most and self._started(work):
                    return
                self._orders -= _is_order(work)
            (self._waiting_orders if _is_order(work) else self._waiting).append(work)

    def _may_begin(self, work: Work) -> bool:
        if not _is_order(work):
            return True
        if self._orders >= self._most_orders:
            return False
        self._orders += 1
        return True

    def _started(self, work: Work) -> bool:
        """A thread of its own for that, unless the machine has none: then it waits for one of those there are."""
        self._threads += 1
        try:
            self._start(work)
        except RuntimeError as error:
            self._threads -= 1
            if not self._short:
                self._log.warn(
                    "No further thread for calls, {count} there are: {error}.", count=self._threads, error=error
                )
            self._short = True
            return False
        self._short = False
        return True

    def _start(self, work: Work | None) -> None:
        threading.Thread(target=self._run, args=(_Thread(), work), name="txworker-rpc", daemon=True).start()

    def _run(self, thread: _Thread, work: Work | None) -> None:
        if work is None:
            work = self._next(thread)
        while work is not None:
            _perform(*work)
            was_order = _is_order(work)
            work = None  # nothing of a finished RPC is kept alive by an idle thread
            work = self._next(thread, was_order)

    def _next(self, thread: _Thread, was_order: bool = False) -> Work | None:
        with self._lock:
            self._orders -= was_order
            if self._waiting:
                return self._waiting.popleft()
            if self._waiting_orders and self._may_begin(self._waiting_orders[0]):
                return self._waiting_orders.popleft()
            self._idle.append(thread)
        while True:
            work = thread.take(self._idle_seconds)
            if work is not None:
                return work
            with self._lock:
                if thread not in self._idle:
                    break
                if self._threads > self._least:
                    self._idle.remove(thread)
                    self._threads -= 1
                    return None
        return thread.take(-1)  # it was given some at the last moment


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


def _is_order(work: Work) -> bool:
    """gRPC has its work done by the run() of the RPC's context."""
    context = getattr(work[1], "__self__", None)
    return isinstance(context, Context) and bool(context.get(IS_ORDER, False))


def _perform(future: Future[T], fn: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(fn(*args, **kwargs))
    except BaseException as error:  # whatever it is belongs to whoever holds the future
        future.set_exception(error)
