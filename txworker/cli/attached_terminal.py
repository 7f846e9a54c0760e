"""`txworker run --tty`: connects this program's terminal to the job's, while the job's output is copied."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any

from txworker.cli import local_terminal
from txworker.cli.failures import NOT_RUN, Failed
from txworker.cli.local_terminal import Escapes, Keyboard, RawMode
from txworker.client import Client, Closed, JobNotRunning, NoSuchJob, WorkerError

_LAST_KEYS_SECONDS = 2.0
"""How long the keys before `~.` may take to be sent; the worker may be restarting."""

_OVER = (Closed, JobNotRunning, NoSuchJob)
"""Errors that need no message: this program ends, or the job is done, which is reported elsewhere."""


class AttachedTerminal:
    """
    left() is called when the user has left the job, failed(error) when keys cannot be sent; both in other threads.

    Raises:
        Failed: standard input is not a terminal.
    """

    def __init__(self, client: Client, left: Callable[[], None], failed: Callable[[Exception], None]) -> None:
        if not local_terminal.is_terminal():
            raise Failed("--tty: standard input is not a terminal", NOT_RUN)
        self._client = client
        self._left = left
        self._failed = failed
        self._raw = RawMode()
        self._escapes = Escapes()
        self._keyboard = Keyboard(self._typed)
        self._keys: SimpleQueue[bytes | None] = SimpleQueue()
        self._changed: SimpleQueue[bool] = SimpleQueue()
        self._handlers: dict[int, Any] = {}
        self._size = local_terminal.size()

    @property
    def size(self) -> tuple[int, int]:
        """The rows and columns to start the job with."""
        return self._size

    def attach(self, job_id: str) -> None:
        """The job runs: from now on it gets every key. Main thread; close() must follow."""
        self._raw.set()
        for number in (signal.SIGWINCH, signal.SIGCONT):
            self._handlers[number] = signal.signal(number, self._signalled)
        self._changed.put(True)  # it may have changed since the start
        self._feeding = threading.Thread(target=self._feed, args=(job_id,), daemon=True)
        resizing = threading.Thread(target=self._resize, args=(job_id,), daemon=True)
        for thread in (self._feeding, resizing, threading.Thread(target=self._keyboard.read, daemon=True)):
            thread.start()

    def close(self) -> None:
        """Restore the terminal. What was typed before the user left the job is still sent. Main thread."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._raw.restore()
        self._keyboard.stop()
        self._keys.put(None)
        self._changed.put(False)
        if self._escapes.left:
            self._feeding.join(_LAST_KEYS_SECONDS)

    def _signalled(self, number: int, _: object) -> None:
        if number == signal.SIGCONT:
            self._raw.set()
        self._changed.put(True)

    def _typed(self, data: bytes) -> None:
        if keys := self._escapes.typed(data):
            self._keys.put(keys)
        if self._escapes.left:
            self._left()

    def _feed(self, job_id: str) -> None:
        try:
            self._client.feed(job_id, self._pieces(), end=False)
        except _OVER:
            return
        except WorkerError as error:
            self._failed(error)

    def _pieces(self) -> Iterator[bytes]:
        while (keys := self._keys.get()) is not None:
            yield keys

    def _resize(self, job_id: str) -> None:
        while self._next_change():
            size = local_terminal.size()
            if size == self._size or not all(size):
                continue
            try:
                self._client.resize(job_id, *size)
            except WorkerError:  # the job is over; or a later size will succeed
                continue
            self._size = size

    def _next_change(self) -> bool:
        """Wait for a change of size; of several only the last counts. False: it is over."""
        change = self._changed.get()
        while not self._changed.empty():
            change = self._changed.get()
        return change
