"""What the worker needs from output files."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Protocol

from twisted.internet.defer import Deferred

from txworker.jobs import Loss
from txworker.jobs.held_process import HeldProcess


class OutputWriter(Protocol):
    """
    Takes what one process prints: write() for each block that the reactor reads, or copy_pipe() in a thread and then
    pipe_copied(). Reactor thread, except for copy_pipe().
    """

    def ready(self, child_fd: int) -> bool:
        """Whether bytes of the process's descriptor 1 or 2 can be written now. If not, the caller asks again later."""

    def write(self, child_fd: int, data: bytes) -> None:
        """Write bytes that the process wrote to its descriptor 1 or 2."""

    def copy_pipe(self, child_fd: int, pipe: int, max_bytes: int) -> int:
        """
        Copy up to max_bytes from the pipe in the kernel; returns how many, 0 at the end of the pipe.

        Called in a worker thread or in the reactor's, never beside another write to the same output.

        Raises:
            BlockingIOError: the pipe is empty.
        """

    def pipe_copied(self, child_fd: int) -> None:
        """copy_pipe() has written something: wake the waiters of Output.more()."""


class Output(OutputWriter, Protocol):
    """The output of one job, stdout and stderr. Reactor thread, except where a docstring says otherwise."""

    @property
    def size(self) -> int:
        """Bytes in the output files, of stdout and of stderr together. Any thread."""

    @property
    def truncated(self) -> bool:
        """Whether some output is missing from the files. Any thread."""

    def recorded(self, stderr: bool) -> int:
        """Bytes in the file of stdout or of stderr; all of them can be read. Any thread."""

    def more(self, beyond: int, stderr: bool) -> Deferred[None]:
        """Fires when the file has a byte at or after offset `beyond`, or the output is closed."""

    def losses(self, stderr: bool) -> tuple[Loss, ...]:
        """Bytes that other programs removed, known before later bytes can be read in their place. Any thread."""

    def owns(self, found: os.stat_result, stderr: bool) -> bool:
        """Whether `found` is the status of this output's file, as far as can be known. Any thread."""

    def is_intact(self, fd: int, stderr: bool) -> bool:
        """Whether losses() already has everything that was cut off the open file `fd`. Any thread."""

    def check(self) -> None:
        """If another program has deleted or replaced a file, make the next bytes go to a new one. Any thread."""

    def finish(self) -> None:
        """The job prints nothing more: `size` and `truncated` no longer change."""

    def close(self) -> None:
        """Wake all waiters of more(): nothing more will be written."""

    def discard(self) -> None:
        """The job did not start: delete the files."""


class OutputDirectory(Protocol):
    """The output files of all jobs, by job id."""

    def create(self, job_id: str, separate_stderr: bool, max_bytes: int) -> Output:
        """Create empty output for max_bytes, 0: no limit. Raises OSError; then no file is left."""

    def open(self, job_id: str, stderr: bool) -> int:
        """
        A descriptor to read a job's output by; the caller closes it. Any thread.

        Raises:
            NotOurFile: the file was not made by this worker; a subclass of OSError.
            OSError: it cannot be opened; FileNotFoundError: there is no file.
        """

    def bytes_of(self, job_id: str, stderr: bool) -> int | None:
        """The size of a job's output file; None: there is no file. Any thread."""

    def losses(self, job_id: str, stderr: bool) -> tuple[Loss, ...]:
        """Bytes that other programs removed from it while the job ran. Any thread."""

    def is_damaged(self, job_id: str, separate_stderr: bool, begun: bool) -> bool:
        """Whether other programs removed output of the job. begun: the job had started, so a missing file is damage."""

    def resume(self, held: HeldProcess, separate_stderr: bool) -> Output:
        """The output of a job that an earlier worker started, for appending. Raises OSError: it cannot be read."""

    def recover(self, job_id: str, separate_stderr: bool) -> int:
        """Make what an earlier worker left of a job's output readable, even if it is empty; returns its bytes."""

    def remove(self, job_ids: Iterable[str]) -> None:
        """Delete the output files of these jobs. Any thread; raises OSError."""
