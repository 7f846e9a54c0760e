"""
A child's output pipe: read in the reactor while there is little, in a thread when it pours.

A job that writes at full speed must cost the others nothing, and a disk that is slower than the job must hold up that
job alone: so the thread both reads and writes, for a bounded time, and then others have their turn.

Bytes are never held in memory between the pipe and the file: the kernel moves them, in one system call (splice(2)).
So a SIGKILL of the worker at any moment loses and doubles none, and the shim or the next worker goes on.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from txworker.base.logs import Logger
from txworker.base.reactor import Timer, WatchingReactor
from txworker.process.pipes.intermediate import PIPE_BYTES, IntermediatePipe, IntermediatePipes, bytes_in, enlarge
from txworker.process.pipes.watched_descriptor import Descriptor

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

    def childDataOwner(self, childFD: int) -> bytes: ...

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
        "_intermediate",
        "_left",
        "_pouring",
        "_protocol",
        "_reactor",
        "_told",
        "_waiting",
    )
    _log = Logger()

    def __init__(
        self,
        reactor: WatchingReactor,
        fd: int,
        protocol: Any,
        child_fd: int,
        ended: Callable[[int], None],
        intermediate: IntermediatePipes | None = None,
    ) -> None:
        self._reactor = reactor
        self._fd = fd
        self._protocol: Pours = protocol
        self._child_fd = child_fd
        self._ended = ended
        self._intermediate = intermediate
        self._pouring = False
        self._closing = False
        self._told = False
        self._begun = False
        self._waiting: Timer | None = None
        self._left: Deferred[None] | None = None
        self._descriptor = Descriptor(reactor, fd, self._read)

    def close(self) -> None:
        """Close our end, whoever holds the other; while a thread reads, when it is through."""
        if self._pouring:
            self._closing = True
        else:
            self._take_what_waits()
            self._descriptor.close()
            self._ended(self._child_fd)

    def leave(self) -> Deferred[None]:
        """Whatever it holds is for another to read; fires when our end is closed, which a thread may still read."""
        self._left = Deferred()
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
        if self._pouring:
            self._closing = True
        else:
            self._descriptor.close()
            self._left.callback(None)
        return self._left

    def give_back(self) -> None:
        """Before anything was read: our end is somebody else's again, open."""
        self._descriptor.give_back()

    def _read(self) -> None:
        if not self._begun and self._is_to_wait():
            self._reactor.removeReader(self._descriptor)
            self._waiting = self._reactor.callLater(AGAIN_SECONDS, self._watch_again)
            return
        try:
            moved = self._move(POURING_BYTES)
        except BlockingIOError:
            return
        if not moved:
            self.close()
        elif moved >= POURING_BYTES:
            enlarge(self._fd)
            self._reactor.removeReader(self._descriptor)
            self._hand_over()

    def _move(self, most: int) -> int:
        """So many bytes at most to where they go, and tell of it; how many they were, 0: the pipe has ended."""
        try:
            moved = self._protocol.childDataPours(self._child_fd, self._fd, most)
        except BlockingIOError:
            raise
        except Exception:  # a mistake of ours: what comes after these bytes is recorded, and the job does not wait
            self._log.failure("recording output")
            return len(os.read(self._fd, most))  # lost; what stayed in the pipe would be recorded in vain for ever
        if moved:
            with self._log.failuresHandled("telling what waits for output"):
                self._protocol.childDataPoured(self._child_fd)
        return moved

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
        with suppress(BlockingIOError):
            for _ in range(PIPE_BYTES // POURING_BYTES):  # another process may go on writing
                if not self._move(POURING_BYTES):
                    return

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
            with self._lent() as intermediate:
                again, over = self._copy(intermediate, time.monotonic() + TURN_SECONDS)
        except Exception:  # a mistake of ours must not leave the job on a pipe that nobody reads
            self._log.failure("copying output")
        self._reactor.callFromThread(self._turn_over, again, over)

    def _lent(self) -> AbstractContextManager[IntermediatePipe | None]:
        if self._intermediate is None:
            return nullcontext()
        return self._intermediate.lend(self._protocol.childDataOwner(self._child_fd))

    def _copy(self, intermediate: IntermediatePipe | None, end: float) -> tuple[bool, bool]:
        """Whether the turn ended before the output did, and whether the pipe has."""
        ready = select.poll()
        ready.register(self._fd, select.POLLIN)
        tell = 0.0
        while not self._closing:
            try:
                read = self._pour_once(intermediate)
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

    def _pour_once(self, intermediate: IntermediatePipe | None) -> int:
        if intermediate is None:
            return self._protocol.childDataPours(self._child_fd, self._fd, PIPE_BYTES)
        left = taken = intermediate.fill(self._fd)
        while left:
            left -= self._protocol.childDataPours(self._child_fd, intermediate.fd, left)
        return taken

    def _tell_poured(self) -> None:
        """Viewers are told of several blocks at once when the reactor is busy."""
        if not self._told:
            self._told = True
            self._reactor.callFromThread(self._poured)

    def _poured(self) -> None:
        self._told = False
        with self._log.failuresHandled("telling what waits for output"):
            self._protocol.childDataPoured(self._child_fd)

    def _turn_over(self, again: bool, over: bool) -> None:
        self._poured()
        self._pouring = again and not self._closing
        if self._left is not None:
            self._descriptor.close()
            self._left.callback(None)
        elif over or self._closing:
            self.close()
        elif again:
            self._hand_over()
        else:
            self._reactor.addReader(self._descriptor)
