"""
A job's standard input: bytes from files in memory are moved to a pipe whenever it has room. Nothing blocks.

The shim feeds the jobs that it holds; without a shim the worker's reactor feeds by the same class.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from txworker.linux.pipes import fill, has_reader

TYPE_CHECKING = False
if TYPE_CHECKING:  # the module itself costs a small program a megabyte
    from typing import Any, Protocol

    class Watch(Protocol):
        """The part of events.Events that is used here; described there."""

        def watch_writer(self, fd: int, ready: Callable[[], None]) -> None: ...

        def watch_room(self, fd: int, wanted: bool) -> None: ...

        def unwatch(self, fd: int) -> None: ...


_ENDS_OF_LINES = (b"\n", b"\r", b"\x04")
"""The last bytes after which a terminal's input is at the beginning of a line: Enter, and an end of file."""


class Feeding:
    """
    Feeds one job by the descriptor `target`: the write end of a pipe, or another one that can be written without
    blocking (of a pseudo-terminal, the master). It is closed here. Used by one thread.

    Begin with put(), then start() once the process runs, so that an input that fits into the pipe is never watched.

    taken: bytes of add() that were written, or will be unless the job closes its input.
    told() is called when all that was put is written, and when the input is closed.
    at_end: what is written before the input is closed in order: a terminal's end of file. After an unfinished line it
    is written twice, because the first one only passes that line on (VEOF; termios(3)).
    """

    def __init__(self, watch: Watch, target: int, told: Callable[[], None], at_end: bytes = b"") -> None:
        os.set_blocking(target, False)
        self._watch = watch
        self._target = target
        self._told = told
        self._at_end = at_end
        self._end = b""  # what is still to be written of it
        self._in_line = False
        self._file = -1
        self._offset = self._size = 0
        self._ends = self._watched = False
        self.taken = 0

    @property
    def is_open(self) -> bool:
        """Whether the job can still be given bytes."""
        return self._target >= 0

    @property
    def busy(self) -> bool:
        """Whether bytes wait for room."""
        return self._file >= 0 or bool(self._end)

    def record(self) -> dict[str, Any]:
        """As in messages: what the next worker needs to know."""
        return {"taken": self.taken, "busy": self.busy, "open": self.is_open}

    def put(self, file: int, ends: bool, offset: int = 0) -> None:
        """
        Feed the bytes of a file (closed here; -1: none), from `offset` on, and then close the input if `ends`. Only
        when not busy.
        """
        self._file, self._offset = file, offset
        self._size = os.fstat(file).st_size if file >= 0 else 0
        if self._at_end and self._size:
            self._in_line = os.pread(file, 1, self._size - 1) not in _ENDS_OF_LINES
        if ends:
            self._begin_end()
        if self.is_open:
            self._advance()
        else:
            self._close_file()

    def add(self, file: int, ends: bool) -> None:
        """As put(), for bytes that come later than the job's start: they count as taken, and told() is called."""
        if self.is_open and file >= 0:
            self.taken += os.fstat(file).st_size
        self.put(file, ends)
        if not self.busy:
            self._told()

    def start(self) -> None:
        """The process runs: watch the descriptor."""
        if self.is_open:
            self._watched = True
            self._watch.watch_writer(self._target, self.ready)
            self._watch.watch_room(self._target, self.busy)

    def ready(self) -> None:
        """There is room, or the job has closed its input."""
        was_busy = self.busy
        if was_busy:
            self._advance()
        elif self.is_open and not has_reader(self._target):
            self._close_target()
        if not self.is_open or (was_busy and not self.busy):
            self._told()

    def end(self) -> None:
        """Close the input when all bytes that were put are written."""
        was_busy = self.busy
        self._begin_end()
        if not was_busy and self.is_open:
            self._advance()

    def close(self) -> None:
        """Close the input now."""
        self._close_file()
        self._close_target()

    def _begin_end(self) -> None:
        if self.is_open and not self._ends:
            self._ends = True
            self._end = self._at_end * 2 if self._in_line else self._at_end

    def _advance(self) -> None:
        try:
            while moved := fill(self._target, self._file, self._offset, self._size):
                self._offset += moved
            while self._end:
                self._end = self._end[os.write(self._target, self._end) :]
        except BlockingIOError:
            if self._watched:
                self._watch.watch_room(self._target, True)
            return
        except OSError:  # EPIPE: the job has closed its input
            self.taken -= min(self.taken, self._size - self._offset)
            self._close_target()
        self._close_file()
        if not self.is_open:
            return
        if self._ends:
            self._close_target()
        elif self._watched:
            self._watch.watch_room(self._target, False)

    def _close_file(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _close_target(self) -> None:
        if self._target >= 0:
            if self._watched:
                self._watch.unwatch(self._target)
            os.close(self._target)
            self._target = -1
        self._end = b""
