"""Twisted's callbacks, turned into bytes for the recorder and facts for the run. No decisions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from txworker.jobs import Usage


class JobProtocol(ProcessProtocol):
    """
    Hears one child.

    started(child) hears that it runs, write(child_fd, data) gets its output, exited() hears that it exited,
    ended(exit_code, signal, usage) that its pipes are closed too and nothing more will come.
    """

    def __init__(
        self,
        started: Callable[[Any], None],
        write: Callable[[int, bytes], None],
        exited: Callable[[], None],
        ended: Callable[[int | None, int | None, Usage], None],
    ) -> None:
        self._started = started
        self._write = write
        self._exited = exited
        self._ended = ended

    def connectionMade(self) -> None:
        """Twisted: the child runs, self.transport is it."""
        self._started(self.transport)

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """Twisted: the child wrote data to its descriptor."""
        self._write(childFD, data)

    def processExited(self, reason: Failure) -> None:
        """Twisted: the child exited; somebody else may still hold its pipes."""
        self._exited()

    def processEnded(self, reason: Failure) -> None:
        """Twisted: the child exited and its pipes are closed."""
        how: Any = reason.value  # ProcessDone or ProcessTerminated
        child: Any = self.transport
        self._ended(how.exitCode, how.signal, child.usage)
