"""All that one job prints, on its way to one file or to two. Reactor thread, except where said otherwise."""

from __future__ import annotations

import os

from twisted.internet.defer import Deferred

from txworker.jobs import Loss
from txworker.output.recorder import Recorder


class Output:
    """All that one job prints: stdout and stderr in order in one file, or stderr in a file of its own."""

    __slots__ = ("err", "out")

    def __init__(self, out: Recorder, err: Recorder | None) -> None:
        self.out = out
        self.err = err

    @property
    def size(self) -> int:
        """Bytes written down so far, of both. Any thread."""
        return self.out.size + (self.err.size if self.err else 0)

    @property
    def truncated(self) -> bool:
        """Something was dropped. Any thread."""
        return self.out.truncated or (self.err is not None and self.err.truncated)

    def ready(self, child_fd: int) -> bool:
        """As Recorder.ready, of the pipe that the child's descriptor leads to."""
        return self._recorder(child_fd == 2).ready()

    def write(self, child_fd: int, data: bytes) -> None:
        """Bytes that came out of the child's descriptor 1 or 2."""
        self._recorder(child_fd == 2).append(data)

    def pour(self, child_fd: int, fd: int, most: int) -> int:
        """As Recorder.pour, of the pipe that the child's descriptor leads to."""
        return self._recorder(child_fd == 2).pour(fd, most)

    def poured(self, child_fd: int) -> None:
        """Something was poured."""
        self._recorder(child_fd == 2).poured()

    def recorded(self, stderr: bool) -> int:
        """Bytes written down so far of one of them. Any thread."""
        return self._recorder(stderr).size

    def more(self, beyond: int, stderr: bool) -> Deferred[None]:
        """Fires when there is a byte at or after offset `beyond`, or nothing more will come."""
        return self._recorder(stderr).more(beyond)

    def losses(self, stderr: bool) -> tuple[Loss, ...]:
        """As Recorder.losses, of one of them."""
        return self._recorder(stderr).losses

    def is_proven(self, fd: int, stderr: bool) -> bool:
        """As Recorder.is_proven, of one of them."""
        return self._recorder(stderr).is_proven(fd)

    def owns(self, found: os.stat_result, stderr: bool) -> bool:
        """As Recorder.owns, of one of them."""
        return self._recorder(stderr).owns(found)

    @property
    def closed(self) -> bool:
        """Nothing more will come."""
        return self.out.closed

    def look(self) -> None:
        """Has somebody done something to the files? As Recorder.look."""
        self.out.look()
        if self.err is not None:
            self.err.look()

    def finish(self) -> None:
        """The job prints nothing more; from now on `size` stays as it is."""
        self.out.finish()
        if self.err is not None:
            self.err.finish()

    def close(self) -> None:
        """Nothing more will come."""
        self.out.close()
        if self.err is not None:
            self.err.close()

    def discard(self) -> None:
        """The job never was: close, and leave no file."""
        self.out.discard()
        if self.err is not None:
            self.err.discard()

    def _recorder(self, stderr: bool) -> Recorder:
        return self.err if stderr and self.err is not None else self.out
