"""
The worker's intermediate pipes, of which the shim holds the read ends, to save what a killed worker left in them.

Before the worker fills a pipe, it writes the owner of the bytes to a memfd that both ends have mapped. A pipe has one
owner at a time: it is emptied before it is filled for another job.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Sequence

from txworker.linux.pipes import bytes_in
from txworker.shim.copying import Copying
from txworker.shim.messages import SLOT_BYTES, close_all


class IntermediatePipes:
    """The pipes of the latest worker; none at first. The loop's thread."""

    def __init__(self) -> None:
        self._owners: mmap.mmap | None = None
        self._pipes: list[int] = []

    def take(self, descriptors: Sequence[int]) -> None:
        """Take those of a new worker, the memfd of the owners first, and close the old ones."""
        self.close()
        owners, *pipes = descriptors
        try:
            self._owners = mmap.mmap(owners, SLOT_BYTES * len(pipes), prot=mmap.PROT_READ)
        except OSError:
            close_all(descriptors)
            raise
        self._pipes = pipes
        os.close(owners)

    def left(self) -> list[tuple[str, int, int]]:
        """For each pipe that is not empty: the id of the job, the job's descriptor, the pipe."""
        return [(*self._owner(index), pipe) for index, pipe in enumerate(self._pipes) if bytes_in(pipe)]

    def close(self) -> None:
        """Close all of them."""
        for pipe in self._pipes:
            os.close(pipe)
        self._pipes = []
        if self._owners is not None:
            self._owners.close()
            self._owners = None

    def _owner(self, index: int) -> tuple[str, int]:
        assert self._owners is not None
        entry = self._owners[index * SLOT_BYTES : (index + 1) * SLOT_BYTES].rstrip(b"\0").decode()
        job_id, _, child_fd = entry.partition(" ")
        return job_id, int(child_fd or 1)


def drain(copying: Copying, pipe: int) -> None:
    """Move the content of an intermediate pipe to the job's file. It goes before the content of the job's own pipe."""
    with contextlib.suppress(BlockingIOError):
        while (left := bytes_in(pipe)) and copying.take(pipe, left):
            pass
