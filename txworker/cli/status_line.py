"""One line on stderr that says what is being waited for; only on a terminal."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from txworker.base.printable import printable
from txworker.cli.colours import is_terminal

AFTER_SECONDS = 0.5
"""A shorter wait is not shown."""

_ERASED = "\r\x1b[K"
_USUAL_WIDTH = 80


class StatusLine:
    """
    The status line of this program. Any thread. Whatever else is printed must be printed within paused().

    stream: where it is shown, asked for each time, because tests and shells replace it.
    """

    def __init__(
        self,
        stream: Callable[[], TextIO | None] = lambda: sys.stderr,
        timer: Callable[[float, Callable[[], None]], threading.Timer] = threading.Timer,
    ) -> None:
        self._stream = stream
        self._timer = timer
        self._lock = threading.RLock()
        self._waiting: list[str] = []
        self._shown = False

    @contextmanager
    def waiting(self, sentence: str) -> Iterator[None]:
        """Inside the block the line is there, once that has lasted for a while. Of several, the last one's is."""
        if not is_terminal(self._stream()):
            yield
            return
        with self._lock:
            self._waiting.append(sentence)
        timer = self._timer(AFTER_SECONDS, self._show)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            with self.paused():
                self._waiting.remove(sentence)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Inside the block the line is not there, and other threads do not print."""
        with self._lock:
            shown = self._shown
            self._hide()
            yield
            if shown:
                self._show()

    def _show(self) -> None:
        with self._lock:
            if self._waiting and not self._shown:
                self._shown = self._write(self._cut(f"txworker: {printable(self._waiting[-1])} …"))

    def _hide(self) -> None:
        if self._shown:
            self._shown = False
            self._write(_ERASED)

    def _write(self, text: str) -> bool:
        """Returns whether it was written; a terminal that is lost has no status."""
        stream = self._stream()
        with suppress(OSError, ValueError):  # ValueError: it is closed
            if stream is not None:
                print(text, end="", file=stream, flush=True)
                return True
        return False

    def _cut(self, text: str) -> str:
        """A longer line would wrap, and only its last row could be erased."""
        width, stream = _USUAL_WIDTH, self._stream()
        with suppress(OSError, ValueError):
            if stream is not None:
                width = os.get_terminal_size(stream.fileno()).columns or width
        return text if len(text) < width else f"{text[: max(width - 2, 0)]}…"
