"""
One output pipe of a process: read in the reactor while there is little, in a thread when there is much.

A job that prints at full speed must not slow others down, and a disk that is slower than the job must hold up that job
alone. So a thread both reads and writes, for a limited time, and then the other jobs have their turns.

No bytes are held in memory between the pipe and the file: the kernel moves them in one system call (splice(2)). So
SIGKILL of the worker at any moment loses and repeats nothing, and the shim or the next worker continues.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress

from twisted.internet.defer import Deferred

from txworker.base.logs import Logger
from txworker.base.reactor import Timer, WatchingReactor
from txworker.linux.pipes import bytes_in
from txworker.ports import OutputWriter
from txworker.process.pipes.intermediate import PIPE_BYTES, IntermediatePipe, IntermediatePipes, enlarge

READ_BYTES = 64 * 1024
"""
The size of one read in the reactor: a full pipe of the default size.
A read of that many bytes means that the job prints much.
A larger buffer would be returned to the system after each read.
"""

IDLE_MILLISECONDS = 2
"""How long a thread waits for more output before it returns the pipe to the reactor, which costs more than the wait."""

NOTIFY_SECONDS = 0.001
"""How often readers of the output are woken while a thread copies; for the last bytes they are woken at once."""

TURN_SECONDS = 0.05
"""How long a thread copies from one pipe before the next pipe's turn."""

RETRY_SECONDS = 0.25
"""
The time between two attempts to write the first output of a job, while there is no descriptor for its file, or to watch
its pipe, while the kernel has no room for that.
"""


class Pipe:
    """
    One pipe, from the start of the process to the end of the pipe, which ended(child_fd) reports once. Reactor thread,
    except where a docstring says otherwise.

    Raises:
        OSError: it cannot be watched; the descriptor stays the caller's.
    """

    __slots__ = (
        "_begun",
        "_child_fd",
        "_closing",
        "_ended",
        "_fd",
        "_in_thread",
        "_intermediate",
        "_job_id",
        "_left",
        "_notified",
        "_output",
        "_reactor",
        "_retry",
    )
    _log = Logger()

    def __init__(
        self,
        reactor: WatchingReactor,
        fd: int,
        job_id: str,
        child_fd: int,
        output: OutputWriter,
        ended: Callable[[int], None],
        intermediate: IntermediatePipes | None = None,
    ) -> None:
        self._reactor = reactor
        self._fd = fd
        self._job_id = job_id
        self._child_fd = child_fd
        self._output = output
        self._ended = ended
        self._intermediate = intermediate
        self._in_thread = False
        self._closing = False
        self._notified = False
        self._begun = False
        self._retry: Timer | None = None
        self._left: Deferred[None] | None = None
        reactor.addReader(self)

    def close(self) -> None:
        """Close our end, even when another process holds the other; if a thread reads, when the thread is done."""
        if self._in_thread:
            self._closing = True
        else:
            self._read_what_waits()
            self._close_fd()
            self._ended(self._child_fd)

    def leave(self) -> Deferred[None]:
        """Leave what the pipe holds to the shim. Fires when our end is closed; a thread may have to finish first."""
        self._left = Deferred()
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if self._in_thread:
            self._closing = True
        else:
            self._close_fd()
            self._left.callback(None)
        return self._left

    def detach(self) -> None:
        """Before anything was read: stop watching, and leave our end open to the caller."""
        self._reactor.removeReader(self)

    def fileno(self) -> int:
        """WatchingReactor: the watched descriptor; negative when it is closed."""
        return self._fd

    def doRead(self) -> None:
        """WatchingReactor: the pipe can be read, or has ended."""
        if not self._begun and self._must_wait():
            self._reactor.removeReader(self)
            self._retry = self._reactor.callLater(RETRY_SECONDS, self._watch_again)
            return
        try:
            moved = self._move(READ_BYTES)
        except BlockingIOError:
            return
        if not moved:
            self.close()
        elif moved >= READ_BYTES:
            enlarge(self._fd)
            self._reactor.removeReader(self)
            self._hand_to_thread()

    def _close_fd(self) -> None:
        if self._fd >= 0:
            self._reactor.removeReader(self)
            os.close(self._fd)
            self._fd = -1

    def _move(self, most: int) -> int:
        """Move up to `most` bytes to the output; returns how many, 0 at the end of the pipe."""
        try:
            moved = self._output.copy_pipe(self._child_fd, self._fd, most)
        except BlockingIOError:
            raise
        except Exception:  # a bug in the output must not make the job wait, nor lose what comes later
            self._log.failure("Writing output of job {job_id}", job_id=self._job_id)
            return len(os.read(self._fd, most))  # lost: if the bytes stayed in the pipe, every read would fail
        if moved:
            self._notify()
        return moved

    def _must_wait(self) -> bool:
        """
        Whether the pipe holds bytes that cannot be written yet; then the job waits on its pipe.

        Asked before the first bytes only, so a job that prints nothing needs no open file.
        """
        if bytes_in(self._fd):
            self._begun = True
            with self._log.failuresHandled("asking for room for output of job {job_id}", job_id=self._job_id):
                self._begun = self._output.ready(self._child_fd)
            return not self._begun
        return False

    def _watch(self) -> None:
        """While the kernel has no room for it, the job waits on its pipe."""
        try:
            self._reactor.addReader(self)
        except OSError as error:
            self._log.warn(
                "Job {job_id} has to wait when it prints, its pipe cannot be watched: {error}",
                job_id=self._job_id,
                error=error,
            )
            self._retry = self._reactor.callLater(RETRY_SECONDS, self._watch_again)

    def _watch_again(self) -> None:
        self._retry = None
        try:
            self._reactor.addReader(self)
        except OSError:
            self._retry = self._reactor.callLater(RETRY_SECONDS, self._watch_again)

    def _read_what_waits(self) -> None:
        """The pipe is closed while the job waits: what cannot be written now is lost, and counted as lost."""
        if self._retry is None:
            return
        self._retry.cancel()
        self._retry = None
        with suppress(BlockingIOError):
            for _ in range(PIPE_BYTES // READ_BYTES):  # a limit, because another process may go on writing
                if not self._move(READ_BYTES):
                    return

    def _hand_to_thread(self) -> None:
        """Where the machine has no thread left, the reactor goes on reading."""
        self._in_thread = True
        try:
            self._reactor.callInThread(self._take_turn)
        except RuntimeError:
            self._in_thread = False
            self._watch()

    def _take_turn(self) -> None:
        """In a thread: copy until the pipe is empty or the turn is over."""
        again = over = False
        try:
            with self._lent() as intermediate:
                again, over = self._copy(intermediate, time.monotonic() + TURN_SECONDS)
        except Exception:  # a bug must not leave the pipe without a reader
            self._log.failure("Copying output of job {job_id}", job_id=self._job_id)
        self._reactor.callFromThread(self._turn_over, again, over)

    def _lent(self) -> AbstractContextManager[IntermediatePipe | None]:
        return nullcontext() if self._intermediate is None else self._intermediate.lend(self._job_id, self._child_fd)

    def _copy(self, intermediate: IntermediatePipe | None, end: float) -> tuple[bool, bool]:
        """Returns whether the turn ended before the output did, and whether the pipe has ended. In a thread."""
        readable = select.poll()
        readable.register(self._fd, select.POLLIN)
        notify_at = 0.0
        while not self._closing:
            try:
                copied = self._copy_once(intermediate)
            except BlockingIOError:
                self._notify_from_thread()
                notify_at = 0.0
                if not readable.poll(IDLE_MILLISECONDS):
                    return False, False
                continue
            if not copied:
                return False, True
            now = time.monotonic()
            if now >= notify_at:
                notify_at = now + NOTIFY_SECONDS
                self._notify_from_thread()
            if now > end:
                return True, False
        return False, False

    def _copy_once(self, intermediate: IntermediatePipe | None) -> int:
        if intermediate is None:
            return self._output.copy_pipe(self._child_fd, self._fd, PIPE_BYTES)
        try:
            left = taken = intermediate.fill(self._fd)
        except BlockingIOError:
            raise
        except OSError:  # the kernel lacks memory: without the intermediate pipe, the output has other ways to write
            return self._output.copy_pipe(self._child_fd, self._fd, PIPE_BYTES)
        while left:
            left -= self._output.copy_pipe(self._child_fd, intermediate.fd, left)
        return taken

    def _notify_from_thread(self) -> None:
        """At most one call is pending, so a busy reactor tells readers of several blocks at once."""
        if not self._notified:
            self._notified = True
            self._reactor.callFromThread(self._notify_pending)

    def _notify_pending(self) -> None:
        self._notified = False
        self._notify()

    def _notify(self) -> None:
        try:
            self._output.pipe_copied(self._child_fd)
        except Exception:  # a bug there must not make the job wait
            self._log.failure("telling readers of the output of job {job_id}", job_id=self._job_id)

    def _turn_over(self, again: bool, over: bool) -> None:
        self._notify_pending()
        self._in_thread = again and not self._closing
        if self._left is not None:
            self._close_fd()
            self._left.callback(None)
        elif over or self._closing:
            self.close()
        elif again:
            self._hand_to_thread()
        else:
            self._watch()
