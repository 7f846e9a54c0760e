"""
Copying output from pipes to files while no worker is connected, and for good when leftovers are kept.

splice(2) moves bytes from the pipe to the file in one system call, so SIGKILL at any moment loses and repeats none:
what has left the pipe is in the file, and the file's length says where the next byte goes. Where splice() is not
supported, bytes are read and written; then a SIGKILL between the two loses what was read.
"""

from __future__ import annotations

import errno
import os
import select
import stat
import time
from collections.abc import Callable
from contextlib import suppress

from txworker.linux.pipes import bytes_in, splice
from txworker.shim.held_job import HeldJob

_OPEN = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_BLOCK = 1024 * 1024
_READ_BYTES = 64 * 1024
_BLOCKS_AT_ONCE = 4
"""Blocks of one pipe in one turn of the loop."""


class Copying:
    """
    One pipe of one job. The caller watches the pipe and calls ready(); over(copying) is called once, at the end of the
    pipe.

    directory: a descriptor of the output directory. placed() returns the descriptor of the file by another number.
    """

    def __init__(
        self,
        directory: int,
        job: HeldJob,
        child_fd: int,
        over: Callable[[Copying], None],
        placed: Callable[[int], int] = int,
    ) -> None:
        self.job = job
        self.child_fd = child_fd
        self.pipe = job.pipes[child_fd]
        self._over = over
        self._directory = directory
        self._placed = placed
        self._most: int = job.request["max_output"]
        self._file = -1
        self._splices = True
        self._begin()

    def ready(self) -> None:
        """Copy what the pipe holds, as far as the pipe's turn allows."""
        for _ in range(_BLOCKS_AT_ONCE):
            try:
                moved = self.take(self.pipe, _BLOCK)
            except BlockingIOError:
                return
            if not moved:
                self._over(self)
                return

    def take(self, pipe: int, most: int) -> int:
        """
        Move up to `most` bytes from the pipe; returns how many left the pipe, 0 at its end. A line in the file tells of
        bytes that the disk has refused before, as soon as the disk takes it, and at their place.

        Raises:
            BlockingIOError: the pipe is empty.
        """
        room = most
        try:
            if self.job.lost[self.child_fd]:
                self._tell_lost()
            if self._most:
                room = min(most, self._most - self._size())
            if room > 0:
                moved = self._move(pipe, room)
                self.job.last_output = time.monotonic()
                return moved
        except BlockingIOError:
            raise
        except OSError:
            return self._drop(pipe, most, self.job.lost)
        return self._drop(pipe, most, self.job.discarded)

    def close(self) -> None:
        """Close the file. Where a file server refuses bytes only then (close(2)), the output counts as incomplete."""
        if self._file >= 0:
            fd, self._file = self._file, -1
            try:
                os.close(fd)
            except OSError:
                self.job.set_lost(self.child_fd, self.job.lost[self.child_fd])

    def _tell_lost(self) -> None:
        """
        Raises:
            OSError: the disk does not take the whole line, and the file has nothing of it.
        """
        line = f"\n[at least {self.job.lost[self.child_fd]} bytes of output were lost here: the disk refused them]\n"
        size = self._size()
        if os.write(self._file, line.encode()) < len(line):
            os.ftruncate(self._file, size)
            os.lseek(self._file, size, os.SEEK_SET)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.job.set_lost(self.child_fd, 0)

    def _begin(self) -> None:
        """The file is opened when there is something to write."""

    def _move(self, pipe: int, most: int) -> int:
        if not bytes_in(pipe):  # the end of a pipe needs no file
            return _end_of(pipe)
        if self._splices:
            try:
                return splice(pipe, self._opened(), most)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                self._splices = False
        return self._copy(pipe, most)

    def _copy(self, pipe: int, most: int) -> int:
        """Without splice(). SIGKILL between read and write loses this block."""
        data = os.read(pipe, min(most, _READ_BYTES))
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._opened(), rest) :]
        except OSError:
            self.job.lost[self.child_fd] += len(rest)
        return len(data)

    def _drop(self, pipe: int, most: int, counted: dict[int, int]) -> int:
        data = os.read(pipe, min(most, _READ_BYTES))
        counted[self.child_fd] += len(data)
        if data:
            self.job.last_output = time.monotonic()
        return len(data)

    def _size(self) -> int:
        return os.fstat(self._opened()).st_size

    def _opened(self, flags: int = _OPEN) -> int:
        if self._file < 0:
            self._file = self._placed(_open_own(self.job.output_file(self.child_fd), flags, self._directory))
            os.lseek(self._file, 0, os.SEEK_END)
        return self._file


def _open_own(name: str, flags: int, directory: int) -> int:
    """
    Raises:
        OSError: it cannot be opened; or it is not a regular file, has a second name, or is another user's.
    """
    fd = os.open(name, flags, 0o600, dir_fd=directory)
    found = os.fstat(fd)
    if stat.S_ISREG(found.st_mode) and found.st_nlink == 1 and found.st_uid == os.geteuid():
        return fd
    os.close(fd)
    raise FileExistsError(errno.EEXIST, "it is not the worker's file", name)


class KeptCopying(Copying):
    """
    For a job that is over and keeps its leftovers; no worker copies its output any more.

    The file is opened at once, while the directory is open. If the file is deleted, as retention does, it is not
    created again, and output is dropped. The line about dropped output is written here, as a worker does.
    """

    _gone: bool
    _told_cap: bool

    def take(self, pipe: int, most: int) -> int:
        """As Copying.take(); when the file is deleted, what the pipe holds is dropped."""
        if self._gone or self._is_deleted():
            self._gone = True
            self.close()
            return self._drop(pipe, most, self.job.discarded)
        taken = super().take(pipe, most)
        if self.job.discarded[self.child_fd] and not self._told_cap:
            self._told_cap = self._write(f"\n[output beyond {self._most} bytes was dropped]\n")
        return taken

    def _is_deleted(self) -> bool:
        try:
            return not os.fstat(self._file).st_nlink
        except OSError:  # a disk that fails says nothing of the name
            return False

    def _begin(self) -> None:
        self._gone = False
        self._told_cap = bool(self.job.discarded[self.child_fd])
        try:
            self._opened(_OPEN & ~os.O_CREAT)
            self._told_cap = self._told_cap or (bool(self._most) and self._size() > self._most)
        except OSError:
            self._gone = True

    def _write(self, line: str) -> bool:
        """Returns whether at least a part of it was written."""
        try:
            return bool(os.write(self._file, line.encode()))
        except OSError:
            return False


def _end_of(pipe: int) -> int:
    """
    Returns 0 when an empty pipe has ended, and reads nothing, because bytes may have come since it was found empty.

    Raises:
        BlockingIOError: it has not ended.
    """
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    events = poll.poll(0)
    if events and not events[0][1] & select.POLLIN:
        return 0
    raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))


def is_readable(pipe: int) -> bool:
    """Whether it holds bytes or has ended."""
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    return bool(poll.poll(0))


def recorded_bytes(directory: int, job: HeldJob) -> int:
    """
    How many bytes the files of its output have; negative when more output would not show in them: they are at the
    ceiling, the disk is full, or the directory is gone.

    Sizes, and not the times of the last writes, because a clock may be set, and a file server has its own.
    """
    most, total = job.request["max_output"], 0
    try:
        if not os.fstat(directory).st_nlink or not os.fstatvfs(directory).f_bavail:
            return -1
        for name in {job.output_file(child_fd) for child_fd in (1, 2)}:
            with suppress(FileNotFoundError):  # it has printed nothing there
                size = os.stat(name, dir_fd=directory, follow_symlinks=False).st_size
                if most and size >= most:
                    return -1
                total += size
    except OSError:
        return -1
    return total
