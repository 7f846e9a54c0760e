"""
A child's output pipe: read in the reactor while there is little, in a thread when it pours.

A job that writes at full speed must cost the others nothing, and a disk that is slower than the job must hold up that
job alone: so the thread both reads and writes, for a bounded time, and then others have their turn. Whoever writes
also reads, for the kernel can then copy straight from the pipe to the file.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from typing import Any, Protocol

from txworker.logs import Logger
from txworker.process.basin import PIPE_BYTES, Basin, a_basin, bytes_in, enlarge
from txworker.process.readable import Descriptor, ReactorWithReaders
from txworker.waiting import Timer

POURING_BYTES = 64 * 1024
"""
Of one read: a whole pipe of the usual size. One that finds it full: the job pours. A larger buffer is given back to
the system after each read, and made anew for the next.
"""

PATIENCE_MILLISECONDS = 2
"""How long a thread waits for more before the reactor watches again, which is dearer."""

TELL_SECONDS = 0.001
"""How often those who wait for a pouring job's output are told; the last of it, and what comes alone, at once."""

TURN_SECONDS = 0.05
"""How long a thread serves one pouring job before the next one's turn."""

AGAIN_SECONDS = 0.25
"""Between two tries to take what a job printed while there is no descriptor for its file."""


class Pours(Protocol):
    """What is asked of the protocol: JobProtocol."""

    def childDataReady(self, childFD: int) -> bool: ...

    def childDataReceived(self, childFD: int, data: bytes) -> None: ...

    def childDataPours(self, childFD: int, fd: int, most: int) -> int: ...

    def childDataPoured(self, childFD: int) -> None: ...


class Pipe:
    """One pipe, from the child's start to its end; ended(child_fd) is told once. Reactor thread."""

    __slots__ = (
        "_begun",
        "_child_fd",
        "_closing",
        "_descriptor",
        "_ended",
        "_fd",
        "_pouring",
        "_protocol",
        "_reactor",
        "_told",
        "_waiting",
    )
    _log = Logger()

    def __init__(
        self, reactor: ReactorWithReaders, fd: int, protocol: Any, child_fd: int, ended: Callable[[int], None]
    ) -> None:
        self._reactor = reactor
        self._fd = fd
        self._protocol: Pours = protocol
        self._child_fd = child_fd
        self._ended = ended
        self._pouring = False
        self._closing = False
        self._told = False
        self._begun = False
        self._waiting: Timer | None = None
        self._descriptor = Descriptor(reactor, fd, self._read)

    def close(self) -> None:
        """Close our end, whoever holds the other; while a thread reads, when it is through."""
        if self._pouring:
            self._closing = True
        else:
            self._take_what_waits()
            self._descriptor.close()
            self._ended(self._child_fd)

    def give_back(self) -> None:
        """Before anything was read: our end is somebody else's again, open."""
        self._descriptor.give_back()

    def _read(self) -> None:
        if not self._begun and self._is_to_wait():
            self._reactor.removeReader(self._descriptor)
            self._waiting = self._reactor.callLater(AGAIN_SECONDS, self._watch_again)
            return
        try:
            data = os.read(self._fd, POURING_BYTES)
        except BlockingIOError:
            return
        if not data:
            self.close()
            return
        self._received(data)
        if len(data) >= POURING_BYTES:
            enlarge(self._fd)
            self._reactor.removeReader(self._descriptor)
            self._hand_over()

    def _received(self, data: bytes) -> None:
        with self._log.failuresHandled("recording output"):  # or Twisted would watch this pipe no longer
            self._protocol.childDataReceived(self._child_fd, data)

    def _is_to_wait(self) -> bool:
        """
        There is something, and nowhere to put it yet: then the job waits on its pipe, and others go on.

        Asked before the first bytes only. Who prints nothing needs no file at its end.
        """
        if bytes_in(self._fd):
            self._begun = True
            with self._log.failuresHandled("asking for room for output"):
                self._begun = self._protocol.childDataReady(self._child_fd)
            return not self._begun
        return False

    def _watch_again(self) -> None:
        self._waiting = None
        self._reactor.addReader(self._descriptor)

    def _take_what_waits(self) -> None:
        """It has waited for long enough: what cannot be written down now is lost, and counted."""
        if self._waiting is None:
            return
        self._waiting.cancel()
        self._waiting = None
        for _ in range(PIPE_BYTES // POURING_BYTES):  # somebody may go on writing
            try:
                data = os.read(self._fd, POURING_BYTES)
            except BlockingIOError:
                return
            if not data:
                return
            self._received(data)

    def _hand_over(self) -> None:
        """To a thread; where the machine has none for it, the reactor goes on reading."""
        self._pouring = True
        try:
            self._reactor.callInThread(self._pour)
        except RuntimeError:
            self._pouring = False
            self._reactor.addReader(self._descriptor)

    def _pour(self) -> None:
        """In a thread: until there is nothing to read, or the turn is over."""
        again = over = False
        try:
            with a_basin() as basin:
                again, over = self._copy(basin, time.monotonic() + TURN_SECONDS)
        except Exception:  # a mistake of ours must not leave the job on a pipe that nobody reads
            self._log.failure("copying output")
        self._reactor.callFromThread(self._turn_over, again, over)

    def _copy(self, basin: Basin | None, end: float) -> tuple[bool, bool]:
        """Whether the turn ended before the output did, and whether the pipe has."""
        ready = select.poll()
        ready.register(self._fd, select.POLLIN)
        tell = 0.0
        while not self._closing:
            try:
                read = self._pour_once(basin)
            except BlockingIOError:
                self._tell_poured()
                tell = 0.0
                if not ready.poll(PATIENCE_MILLISECONDS):
                    return False, False
                continue
            if not read:
                return False, True
            now = time.monotonic()
            if now >= tell:
                tell = now + TELL_SECONDS
                self._tell_poured()
            if now > end:
                return True, False
        return False, False

    def _pour_once(self, basin: Basin | None) -> int:
        if basin is None:
            return self._protocol.childDataPours(self._child_fd, self._fd, PIPE_BYTES)
        left = taken = basin.fill(self._fd)
        while left:
            left -= self._protocol.childDataPours(self._child_fd, basin.fd, left)
        return taken

    def _tell_poured(self) -> None:
        """Viewers are told of several blocks at once when the reactor is busy."""
        if not self._told:
            self._told = True
            self._reactor.callFromThread(self._poured)

    def _poured(self) -> None:
        self._told = False
        with self._log.failuresHandled("telling who waits for output"):
            self._protocol.childDataPoured(self._child_fd)

    def _turn_over(self, again: bool, over: bool) -> None:
        self._poured()
        self._pouring = again and not self._closing
        if over or self._closing:
            self.close()
        elif again:
            self._hand_over()
        else:
            self._reactor.addReader(self._descriptor)
