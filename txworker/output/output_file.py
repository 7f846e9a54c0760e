"""
The file for one stream of a running job's output, which other processes may cut, delete or replace at any time.

Detects and repairs such changes; recorder.py decides what is written.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable
from contextlib import suppress

from txworker.base.directory import Directory, NotOurFile, open_own, open_own_and_stat
from txworker.jobs import Loss
from txworker.output.losses import CUT, DELETED, REPLACED, Sample, gap_around, load, merged, sample_of, save

_FLAGS = os.O_RDWR | os.O_CREAT
"""Without O_APPEND, which splice(2) refuses. Read access is for samples. O_CREAT is for a file that was deleted."""

SAMPLE_EVERY_BYTES = 64 * 1024 * 1024
"""A new sample is taken after this many bytes, so that it stays near the end of the file."""


def _unchanged(fd: int) -> int:
    return fd


class OutputFile:
    """
    An output file by its name, in `directory` or else the current directory. It is opened by open(), not before.

    Methods are for the one thread that writes at the time, except where said otherwise.
    """

    __slots__ = (
        "_directory",
        "_identity",
        "_relocate_fd",
        "fd",
        "initial_size",
        "losses",
        "name",
        "sample",
        "unreachable",
    )

    def __init__(
        self,
        name: str,
        directory: Directory | None,
        relocate_fd: Callable[[int], int],
        initial_size: int = 0,
        losses: tuple[Loss, ...] = (),
    ) -> None:
        self._directory = directory
        self._relocate_fd = relocate_fd
        self._identity = (0, 0)  # device and inode, once the file is open
        self.name = name
        self.fd = -1
        self.initial_size = initial_size
        self.losses = losses
        self.sample: Sample | None = None
        self.unreachable = False  # the open file has no name any more, and the name leads to a file that is not ours

    @classmethod
    def create(
        cls, name: str, directory: Directory | None = None, relocate_fd: Callable[[int], int] = _unchanged
    ) -> OutputFile:
        """
        Create an empty file. relocate_fd(fd) may return another number for a descriptor that stays open for long.

        Raises:
            OSError: the file exists, or cannot be created.
        """
        file = cls(name, directory, relocate_fd)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        os.close(os.open(name, flags, 0o600, dir_fd=file._dir_fd))
        return file

    @classmethod
    def existing(cls, name: str, directory: Directory | None, relocate_fd: Callable[[int], int]) -> OutputFile:
        """The file that an earlier worker and the shim have written so far; empty if it was deleted meanwhile."""
        dir_fd = None if directory is None else directory.fd
        size = 0
        with suppress(FileNotFoundError):
            size = os.stat(name, dir_fd=dir_fd, follow_symlinks=False).st_size
        return cls(name, directory, relocate_fd, size, load(name, dir_fd))

    @property
    def path(self) -> str:
        """For log lines."""
        return self.name if self._directory is None else f"{self._directory.path}/{self.name}"

    @property
    def is_open(self) -> bool:
        """open() was called, and close() was not."""
        return self.fd >= 0

    def open(self) -> int:
        """
        Open the file if it is not open, with the file offset at its end; return the descriptor.

        Raises:
            NotOurFile: the name leads to something else.
            OSError: it cannot be opened.
        """
        if not self.is_open:
            self._adopt(*self._open_by_name(self.initial_size))
            if self.initial_size:
                os.lseek(self.fd, 0, os.SEEK_END)
        return self.fd

    def read_before_start(self, size: int) -> bytes:
        """The last `size` bytes of the initial content."""
        with suppress(OSError):
            fd = open_own(self.name, os.O_RDONLY, dir_fd=self._dir_fd)
            try:
                return os.pread(fd, size, self.initial_size - size)
            finally:
                os.close(fd)
        return b""

    def close(self) -> None:
        """
        Close the descriptor. May be called again.

        Raises:
            OSError: it is closed, but a file server has refused bytes that it seemed to have taken (close(2)).
        """
        if self.is_open:
            fd, self.fd = self.fd, -1
            os.close(fd)

    def remove(self) -> None:
        """Remove the name."""
        with suppress(FileNotFoundError):
            os.unlink(self.name, dir_fd=self._dir_fd)

    def owns(self, found: os.stat_result) -> bool:
        """The status is that of this file; also true before the file is opened for the first time. Any thread."""
        return not any(self._identity) or (found.st_dev, found.st_ino) == self._identity

    def damage(self, size: int) -> Loss | None:
        """What another process has done to a file that should have `size` bytes, as far as its name and size show."""
        try:
            found = os.stat(self.name, dir_fd=self._dir_fd, follow_symlinks=False)
        except FileNotFoundError:
            return Loss(0, size, DELETED)
        except OSError:  # unknown
            return None
        if not self.owns(found):
            return Loss(0, size, REPLACED)
        return Loss(found.st_size, size, CUT) if found.st_size < size else None

    def save_damage(self, damage: Loss) -> None:
        """Write the damage down for the next worker, in case this one ends before repair()."""
        self._save([*self.losses, damage])

    def has_size(self, size: int) -> bool:
        """
        The file has `size` bytes, or its server does not tell; the file offset is moved to its end. One system call,
        made for every write.
        """
        try:
            return os.lseek(self.fd, 0, os.SEEK_END) == size
        except OSError:  # the offset is where the last byte was written
            return True

    def matches_sample(self) -> bool:
        """The sampled bytes are still there."""
        return self.sample is None or self.sample.matches(self.fd)

    def take_sample(self, offset: int, data: bytes | memoryview | None = None) -> None:
        """Sample the bytes at the offset, if a new sample is due; `data` saves reading them."""
        if self.sample is None or offset - self.sample.offset >= SAMPLE_EVERY_BYTES:
            with suppress(OSError):  # a disk that fails; the next bytes are sampled
                self.sample = sample_of(offset, os.pread(self.fd, 16, offset) if data is None else data) or self.sample

    def repair(self, size: int) -> Loss | None:
        """
        Make the next byte go to offset `size`, in a new file if need be; return what was lost before it.

        What was lost is on disk before this returns, so a reader of the file knows it before new bytes appear.

        Raises:
            OSError: the disk fails; the next byte would go elsewhere.
        """
        loss = self.damage(size)
        if loss is not None and loss.what != CUT:
            self._reopen(size)
        elif loss is None and self.sample is not None and not self.matches_sample():
            loss = Loss(*gap_around(self.fd, self.sample.offset, size), CUT)
        os.lseek(self.fd, size, os.SEEK_SET)
        if loss is None or loss.begin == loss.end:
            if not self.unreachable and not self.has_size(size):
                os.ftruncate(self.fd, size)  # another process has appended bytes
                os.lseek(self.fd, size, os.SEEK_SET)
            self._save(self.losses)  # without what save_damage() wrote
            return None
        if self.sample is not None and self.sample.offset >= loss.begin:
            self.sample = None
        self._add(loss)
        return loss

    def finish(self, size: int) -> None:
        """Nothing more is written. What went to an unreachable file is lost, all of it."""
        if self.unreachable and size:
            self._add(Loss(0, size, self.losses[-1].what if self.losses else DELETED))

    def _reopen(self, size: int) -> None:
        try:
            fd, found = self._open_by_name(size)
        except OSError:
            self.unreachable = True
            return
        os.close(self.fd)
        self._adopt(fd, found)
        self.sample = None

    def _open_by_name(self, most: int) -> tuple[int, os.stat_result]:
        """Open the name, or create it; a file with more than `most` bytes is not ours."""
        fd, found = open_own_and_stat(self.name, _FLAGS, dir_fd=self._dir_fd)
        if found.st_size > most:
            os.close(fd)
            raise NotOurFile(errno.EEXIST, "it has bytes that the job did not print", self.name)
        return fd, found

    def _adopt(self, fd: int, found: os.stat_result) -> None:
        self._identity = (found.st_dev, found.st_ino)
        self.fd = self._relocate_fd(fd)

    def _add(self, loss: Loss) -> None:
        self.losses = merged([*self.losses, loss])
        self._save(self.losses)

    def _save(self, losses: Iterable[Loss]) -> None:
        with suppress(OSError):  # then they are known until the job is done
            save(self.name, merged(losses), self._dir_fd)

    @property
    def _dir_fd(self) -> int | None:
        return None if self._directory is None else self._directory.fd
