"""What the worker asks of output files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Protocol

from twisted.internet.defer import Deferred

from txworker.jobs import Loss


class Output(Protocol):
    """All that one job prints."""

    @property
    def size(self) -> int:
        """Bytes written down so far. Any thread."""

    @property
    def truncated(self) -> bool:
        """Something was dropped. Any thread."""

    def ready(self, child_fd: int) -> bool:
        """The child's descriptor 1 or 2 has bytes: whether they can be taken now, or else a moment later."""

    def write(self, child_fd: int, data: bytes) -> None:
        """Bytes that came out of the child's descriptor 1 or 2."""

    def pour(self, child_fd: int, fd: int, most: int) -> int:
        """
        Copy what pipe `fd` holds, `most` bytes at most; how many those were, 0: it has ended.

        In a thread, at times when nobody else writes. Raises BlockingIOError when the pipe is empty. poured() tells
        who waits.
        """

    def poured(self, child_fd: int) -> None:
        """Something was poured."""

    def recorded(self, stderr: bool) -> int:
        """Bytes written down so far of one of them; they can be read. Any thread."""

    def more(self, beyond: int, stderr: bool) -> Deferred[None]:
        """Fires when there is a byte at or after offset `beyond`, or nothing more will come."""

    def losses(self, stderr: bool) -> tuple[Loss, ...]:
        """What others have taken away of one of them; known before it could be read as something else. Any thread."""

    def owns(self, found: os.stat_result, stderr: bool) -> bool:
        """That is the file in which one of them is, as far as can be told. Any thread."""

    def is_intact(self, fd: int, stderr: bool) -> bool:
        """Nothing was cut off of that open file just now that is not in losses() yet. Any thread."""

    def finish(self) -> None:
        """The job prints nothing more; from now on `size` and `truncated` stay as they are."""

    def close(self) -> None:
        """Nothing more will come."""

    def discard(self) -> None:
        """The job never was: leave no file."""


class Shelf(Protocol):
    """Which output belongs to which job."""

    def create(self, job_id: str, separate_stderr: bool, max_bytes: int) -> Output:
        """New, empty output that takes so many bytes, 0: all. Raises OSError; then no file is left."""

    def open(self, job_id: str, stderr: bool) -> int:
        """
        A descriptor to read it by. Any thread.

        Raises FileNotFoundError, another OSError, or NotOurFile, which is one: it is none of the worker's files.
        """

    def bytes_of(self, job_id: str, stderr: bool) -> int | None:
        """How many are in that file; None: it is not there. Any thread."""

    def losses(self, job_id: str, stderr: bool) -> tuple[Loss, ...]:
        """What others have taken away of it while its job ran. Any thread."""

    def is_damaged(self, job_id: str, separate_stderr: bool, begun: bool) -> bool:
        """Others have taken something away of a job's output; begun: there was one, though it be empty."""

    def resume(
        self, job_id: str, separate_stderr: bool, max_bytes: int, lost: Sequence[int], discarded: Sequence[int]
    ) -> Output:
        """The output of a job that an earlier worker has started, to be gone on with."""

    def recover(self, job_id: str, separate_stderr: bool) -> int:
        """Bytes that a dead worker has left of a job's output, which can be read from now on, though it be empty."""

    def remove(self, job_ids: Iterable[str]) -> None:
        """Delete it. Any thread; raises OSError."""
