"""The threads that serve RPCs: created when needed, ended when idle, and no obstacle to the end of the process."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextvars import Context, ContextVar
from typing import Any, TypeVar

from txworker.base.logs import Logger

T = TypeVar("T")

IS_START: ContextVar[bool] = ContextVar("IS_START", default=False)
"""Set in an RPC's context, which gRPC's interceptors and handlers share: it is StartJob, which may take long."""

MAX_WAITING = 10_000
"""How many StartJob calls may wait for a thread, and how many others. Each takes 23 KB, and its message."""

MAX_WAITING_BYTES = 128 * 1024 * 1024
"""The messages of those StartJob calls together, and of those others: 5,000 at once may have 25 KB each."""

Work = tuple["Future[Any]", Callable[..., Any], tuple[Any, ...], dict[str, Any], int]
"""A future, the function that it is for, its arguments, and the size of the call's message in bytes."""


class RpcThreads(Executor):
    """
    At most max_threads daemon threads. One that is idle for idle_seconds ends, except for the last min_threads.

    The first min_threads are created at once, so that they exist even when the machine has no thread left later. At
    most max_starts threads serve StartJob at a time; further ones wait, and other calls overtake them.

    The pool of concurrent.futures never ends a thread, and keeps the interpreter from exiting while one is busy; the
    daemon must end within bounded time. Work is handed to the thread that became idle last, which costs one lock. The
    other threads sleep until they end.

    Raises:
        RuntimeError: the first threads cannot be created.
    """

    _log = Logger()

    def __init__(self, max_threads: int, max_starts: int, min_threads: int = 0, idle_seconds: float = 5.0) -> None:
        self._max_threads = max_threads
        self._max_starts = max_starts
        self._min_threads = min_threads
        self._idle_seconds = idle_seconds
        self._lock = threading.Lock()
        self._waiting = _Queue()
        self._waiting_starts = _Queue()
        self._idle: list[_Thread] = []
        self._threads = self._starts = 0
        self._short = False
        for _ in range(min_threads):
            self._threads += 1
            self._create(None)

    @property
    def waiting(self) -> int:
        """How many calls wait for a thread. Any thread."""
        return len(self._waiting.works) + len(self._waiting_starts.works)

    @property
    def count(self) -> int:
        """How many threads there are. Any thread."""
        return self._threads

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Run fn in one of the threads. Any thread. Never blocks or raises: gRPC's serving thread would end."""
        future: Future[T] = Future()
        work: Work = (future, fn, args, kwargs, 0)
        with self._lock:
            if not self._begun(work):
                self._queue(work).append(work)
        return future

    def take(self, work: Work) -> bool:
        """As submit(), with a future that exists. False: too many wait for a thread already, and nothing is done."""
        with self._lock:
            if self._begun(work):
                return True
            queue = self._queue(work)
            if queue.is_full(work):
                return False
            queue.append(work)
            return True

    def _queue(self, work: Work) -> _Queue:
        return self._waiting_starts if _is_start(work) else self._waiting

    def _begun(self, work: Work) -> bool:
        """Whether a thread does the work now."""
        if not self._may_begin(work):
            return False
        if self._idle:
            self._idle.pop().give(work)
            return True
        if self._threads < self._max_threads and self._created(work):
            return True
        self._starts -= _is_start(work)
        return False

    def _may_begin(self, work: Work) -> bool:
        if not _is_start(work):
            return True
        if self._starts >= self._max_starts:
            return False
        self._starts += 1
        return True

    def _created(self, work: Work) -> bool:
        """Whether a new thread does the work. The machine may have none left; then the work waits for another."""
        self._threads += 1
        try:
            self._create(work)
        except RuntimeError as error:
            self._threads -= 1
            if not self._short:
                text = "No further thread for calls can be created, there are {count}: {error}."
                self._log.warn(text, count=self._threads, error=error)
            self._short = True
            return False
        self._short = False
        return True

    def _create(self, work: Work | None) -> None:
        threading.Thread(target=self._run, args=(_Thread(), work), name="txworker-rpc", daemon=True).start()

    def _run(self, thread: _Thread, work: Work | None) -> None:
        if work is None:
            work = self._next(thread)
        while work is not None:
            _perform(*work[:4])
            was_start = _is_start(work)
            work = None  # an idle thread keeps nothing of a finished RPC alive
            work = self._next(thread, was_start)

    def _next(self, thread: _Thread, was_start: bool = False) -> Work | None:
        with self._lock:
            self._starts -= was_start
            if self._waiting.works:
                return self._waiting.popleft()
            if self._waiting_starts.works and self._may_begin(self._waiting_starts.works[0]):
                return self._waiting_starts.popleft()
            self._idle.append(thread)
        while True:
            work = thread.take(self._idle_seconds)
            if work is not None:
                return work
            with self._lock:
                if thread not in self._idle:
                    break
                if self._threads > self._min_threads:
                    self._idle.remove(thread)
                    self._threads -= 1
                    return None
        return thread.take(-1)  # give() was called at the last moment


class _Queue:
    """Work that waits for a thread, in order. Used with the lock of RpcThreads held."""

    def __init__(self) -> None:
        self.works: deque[Work] = deque()
        self._bytes = 0

    def is_full(self, work: Work) -> bool:
        """With that work it would be more than is permitted."""
        return len(self.works) >= MAX_WAITING or self._bytes + work[-1] > MAX_WAITING_BYTES

    def append(self, work: Work) -> None:
        """Put it at the end."""
        self.works.append(work)
        self._bytes += work[-1]

    def popleft(self) -> Work:
        """The first work, which is removed."""
        work = self.works.popleft()
        self._bytes -= work[-1]
        return work


class _Thread:
    """Hands work to one thread."""

    __slots__ = ("_given", "_work")

    def __init__(self) -> None:
        self._given = threading.Lock()
        self._given.acquire()
        self._work: Work | None = None

    def give(self, work: Work) -> None:
        """Any thread, once for each take()."""
        self._work = work
        self._given.release()

    def take(self, within_seconds: float) -> Work | None:
        """The work that is given, or None after that time; negative: no limit."""
        if not self._given.acquire(timeout=within_seconds):
            return None
        work, self._work = self._work, None
        return work


def _is_start(work: Work) -> bool:
    """gRPC submits the run() of the RPC's context."""
    context = getattr(work[1], "__self__", None)
    return isinstance(context, Context) and bool(context.get(IS_START, False))


def _perform(future: Future[T], fn: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(fn(*args, **kwargs))
    except BaseException as error:  # whatever it is, it belongs to the future
        future.set_exception(error)
