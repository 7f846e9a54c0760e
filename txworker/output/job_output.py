"""The whole output of one job, in one file or in two. Reactor thread, except where said otherwise."""

from __future__ import annotations

import os

from twisted.internet.defer import Deferred

from txworker.jobs import Loss
from txworker.output.recorder import Recorder


class Output:
    """
    The output of one job: stdout and stderr in one file in the order of writes, or stderr in a file of its own.

    A method with `child_fd` is for the file to which the child's descriptor 1 or 2 goes; one with `stderr`, for the
    separate stderr file if there is one. They behave as Recorder's methods of the same name.
    """

    __slots__ = ("_recorders", "err", "out")

    def __init__(self, out: Recorder, err: Recorder | None) -> None:
        self.out = out
        self.err = err
        self._recorders = (out,) if err is None else (out, err)

    @property
    def size(self) -> int:
        """Bytes in both files so far. Any thread."""
        return self.out.size + (self.err.size if self.err else 0)

    @property
    def truncated(self) -> bool:
        """Bytes are missing from either file. Any thread."""
        return self.out.truncated or (self.err is not None and self.err.truncated)

    def ready(self, child_fd: int) -> bool:
        """Whether the first byte can be taken now."""
        return self._recorder(child_fd == 2).ready()

    def write(self, child_fd: int, data: bytes) -> None:
        """Append data that the child wrote."""
        self._recorder(child_fd == 2).append(data)

    def copy_pipe(self, child_fd: int, pipe: int, max_bytes: int) -> int:
        """Move bytes from the pipe to the file. Any thread, one at a time."""
        return self._recorder(child_fd == 2).copy_pipe(pipe, max_bytes)

    def pipe_copied(self, child_fd: int) -> None:
        """Wake the readers after copy_pipe()."""
        self._recorder(child_fd == 2).pipe_copied()

    def recorded(self, stderr: bool) -> int:
        """Bytes in one file so far. Any thread."""
        return self._recorder(stderr).size

    def more(self, beyond: int, stderr: bool) -> Deferred[None]:
        """Fires when the file has a byte at offset `beyond`, or nothing more comes."""
        return self._recorder(stderr).more(beyond)

    def losses(self, stderr: bool) -> tuple[Loss, ...]:
        """The bytes that other processes have removed from one file. Any thread."""
        return self._recorder(stderr).losses

    def is_intact(self, fd: int, stderr: bool) -> bool:
        """Nothing was cut off the open file that is not in losses(). Any thread."""
        return self._recorder(stderr).is_intact(fd)

    def owns(self, found: os.stat_result, stderr: bool) -> bool:
        """The status is that of the recorded file. Any thread."""
        return self._recorder(stderr).owns(found)

    @property
    def closed(self) -> bool:
        """Nothing more comes."""
        return self.out.closed

    def check(self) -> None:
        """Look whether another process has changed a file. Any thread."""
        for recorder in self._recorders:
            recorder.check()

    def finish(self) -> None:
        """The job prints nothing more; from now on `size` does not change."""
        for recorder in self._recorders:
            recorder.finish()

    def close(self) -> None:
        """Close the files and wake every reader."""
        for recorder in self._recorders:
            recorder.close()

    def discard(self) -> None:
        """Close and remove the files, because the job was not started."""
        for recorder in self._recorders:
            recorder.discard()

    def _recorder(self, stderr: bool) -> Recorder:
        return self.err if stderr and self.err is not None else self.out
