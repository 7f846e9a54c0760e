"""Twisted's callbacks, turned into bytes for the recorder and facts for the run. No decisions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from txworker.jobs import Usage
from txworker.shim.intermediate import owner_entry


@dataclass(frozen=True)
class Sink:
    """
    Where output goes, as ports.Output. ready(child_fd) is called before the first bytes are read, then either
    write(child_fd, data) in the reactor, or copy_pipe(child_fd, pipe, max_bytes) in a thread, which reads the pipe, and
    afterwards pipe_copied(child_fd) in the reactor.
    """

    ready: Callable[[int], bool]

    write: Callable[[int, bytes], None]
    copy_pipe: Callable[[int, int, int], int]
    pipe_copied: Callable[[int], None]


class JobProtocol(ProcessProtocol):
    """
    Hears one child.

    started(child) hears that it runs, the sink gets its output, exited() hears that it exited, ended(exit_code,
    signal, usage) that its pipes are closed too and it was waited for.
    """

    def __init__(
        self,
        job_id: str,
        started: Callable[[Any], None],
        exited: Callable[[], None],
        ended: Callable[[int | None, int | None, Usage], None],
        sink: Sink,
    ) -> None:
        self._job_id = job_id
        self._started = started
        self._exited = exited
        self._ended = ended
        self._sink = sink

    def connectionMade(self) -> None:
        """Twisted: the child runs, self.transport is it."""
        self._started(self.transport)

    def childDataReady(self, childFD: int) -> bool:
        """The child has begun to write to its descriptor: whether that can be taken now."""
        return self._sink.ready(childFD)

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """Twisted: the child wrote data to its descriptor."""
        self._sink.write(childFD, data)

    def childDataOwner(self, childFD: int) -> bytes:
        """Whose bytes those of that descriptor are, for an intermediate pipe."""
        return owner_entry(self._job_id, childFD)

    def childDataPours(self, childFD: int, fd: int, most: int) -> int:
        """
        The child wrote: move so many bytes of that pipe at most to the output file; how many they were, 0: it has
        ended.

        Reactor thread or, where much comes, another one; one call at a time. Raises BlockingIOError: the pipe is empty.
        """
        return self._sink.copy_pipe(childFD, fd, most)

    def childDataPoured(self, childFD: int) -> None:
        """copy_pipe() has written something."""
        self._sink.pipe_copied(childFD)

    def processExited(self, reason: Failure) -> None:
        """Twisted: the child exited; somebody else may still hold its pipes."""
        self._exited()

    def processEnded(self, reason: Failure) -> None:
        """Twisted: the child exited and its pipes are closed."""
        how: Any = reason.value  # ProcessDone or ProcessTerminated
        child: Any = self.transport
        self._ended(how.exitCode, how.signal, child.usage)
