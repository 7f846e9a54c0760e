"""
Pipes of ours between a job's pipe and a file.

While the kernel copies from a pipe into a file it holds that pipe's lock, and the job's next write waits. From pipe to
pipe it hands the pages over without copying them (splice(2)): so a job's pipe is emptied into ours at once, and while
ours is copied the job fills its own again.

What is in such a pipe would die with the worker. So the shim holds the read ends, too, and a memfd says whose bytes
they are (shim/intermediate.py).
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import sys
import termios
from collections import deque
from collections.abc import Iterator

from txworker.base.logs import Logger
from txworker.shim.intermediate import SLOT_BYTES

PIPE_BYTES = 1024 * 1024
"""Of a pipe through which much comes, as far as the kernel allows (/proc/sys/fs/pipe-max-size)."""

_SPLICE_F_NONBLOCK = 2  # <fcntl.h>; os has it from Python 3.12 on


class IntermediatePipe:
    """
    One, used by one thread at a time. What it holds is to be read from `fd`, all of it, before it is filled
    again.
    """

    def __init__(self, index: int) -> None:
        self.index = index
        self.fd, self._filling = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        enlarge(self.fd)

    def fill(self, pipe: int) -> int:
        """
        Take what that pipe holds, as much as there is room for; how many bytes, 0: it has ended.

        Raises:
            BlockingIOError: the pipe is empty.
        """
        return os.splice(pipe, self._filling, PIPE_BYTES, flags=_SPLICE_F_NONBLOCK)

    def close(self) -> None:
        """What it holds is gone, unless the shim has it, too."""
        os.close(self.fd)
        os.close(self._filling)


class IntermediatePipes:
    """
    So many; each is lent to one thread at a time. Any thread.

    Raises:
        OSError: no descriptor is left for them.
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
        """For the shim: the memfd of the owners, then the read ends."""
        return [self._memfd, *(pipe.fd for pipe in self._all)]

    @contextlib.contextmanager
    def lend(self, owner: bytes) -> Iterator[IntermediatePipe | None]:
        """One for a while, whose bytes will be the owner's (shim.intermediate.owner_entry); None: all are lent."""
        try:
            pipe = self._free.popleft()
        except IndexError:
            yield None
            return
        start = pipe.index * SLOT_BYTES
        self._owners[start : start + SLOT_BYTES] = owner
        try:
            yield pipe
        finally:
            if bytes_in(pipe.fd):  # a mistake of ours has left some in it: the next owner must not be given them
                self._log.error("Output was lost in an intermediate pipe: {owner}.", owner=owner.rstrip(b"\0").decode())
            else:
                self._free.append(pipe)

    def close(self) -> None:
        """No thread copies any more."""
        for pipe in self._all:
            pipe.close()
        self._owners.close()
        os.close(self._memfd)


def enlarge(fd: int) -> None:
    """Let that pipe hold PIPE_BYTES, or leave it as it is when the user's pipes may hold no more (pipe(7))."""
    with contextlib.suppress(OSError):
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE_BYTES)


def bytes_in(fd: int) -> int:
    """How many a pipe holds."""
    return int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, bytes(4)), sys.byteorder)
