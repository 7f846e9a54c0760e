"""
The worker's own pipes between a job's pipe and its file.

While the kernel copies from a pipe into a file it holds the lock of that pipe, and the job's next write waits. From
pipe to pipe it moves the pages without a copy (splice(2)). So a job's pipe is emptied into an intermediate pipe at
once, and the job fills its own pipe again while the intermediate one is copied.

The content of an intermediate pipe would die with the worker. So the shim holds the read ends too, and a memfd says to
which job the bytes in each of them belong (owner_entry() in shim/messages.py).
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
from collections import deque
from collections.abc import Iterator

from txworker.base.logs import Logger
from txworker.linux.pipes import bytes_in, splice
from txworker.shim.messages import SLOT_BYTES, owner_entry

PIPE_BYTES = 1024 * 1024
"""The size of a pipe that carries much, as far as the kernel allows (/proc/sys/fs/pipe-max-size)."""


class IntermediatePipe:
    """One pipe, used by one thread at a time. All of its content must be read from `fd` before it is filled again."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.fd, self._filling = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        enlarge(self.fd)

    def fill(self, pipe: int) -> int:
        """
        Move what that pipe holds, as far as there is room; returns how many bytes, 0 at the end of the pipe.

        Raises:
            BlockingIOError: the pipe is empty.
        """
        return splice(pipe, self._filling, PIPE_BYTES)

    def close(self) -> None:
        """Close both ends; the content is lost unless the shim holds it too."""
        os.close(self.fd)
        os.close(self._filling)


class IntermediatePipes:
    """
    `count` pipes, each lent to one thread at a time. Any thread.

    Raises:
        OSError: there are not enough descriptors.
    """

    _log = Logger()

    def __init__(self, count: int) -> None:
        self._memfd = os.memfd_create("owners")
        os.ftruncate(self._memfd, count * SLOT_BYTES)
        self._owners = mmap.mmap(self._memfd, count * SLOT_BYTES)
        self._all = [IntermediatePipe(index) for index in range(count)]
        self._free = deque(self._all)

    @property
    def descriptors(self) -> list[int]:
        """What the shim is given: the memfd of the owners, then the read ends."""
        return [self._memfd, *(pipe.fd for pipe in self._all)]

    @contextlib.contextmanager
    def lend(self, job_id: str, child_fd: int) -> Iterator[IntermediatePipe | None]:
        """A pipe for output of that descriptor of the job; None: all are lent."""
        try:
            pipe = self._free.popleft()
        except IndexError:
            yield None
            return
        start = pipe.index * SLOT_BYTES
        self._owners[start : start + SLOT_BYTES] = owner_entry(job_id, child_fd)
        try:
            yield pipe
        finally:
            if bytes_in(pipe.fd):  # after a bug: the bytes must not go to the next job
                self._log.error("Output of job {job_id} was lost in an intermediate pipe.", job_id=job_id)
            else:
                self._free.append(pipe)

    def close(self) -> None:
        """Close all pipes; no thread may use them any more."""
        for pipe in self._all:
            pipe.close()
        self._owners.close()
        os.close(self._memfd)


def enlarge(fd: int) -> None:
    """Let that pipe hold PIPE_BYTES; it keeps its size when the user's pipes may hold no more (pipe(7))."""
    with contextlib.suppress(OSError):
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
