"""The file of one stream of output while its job runs: opened when needed, and looked after, for others may meddle."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable
from contextlib import suppress

from txworker.base.directory import Directory, NotOurFile, open_own, open_own_and_stat
from txworker.jobs import Loss
from txworker.output.losses import CUT, DELETED, REPLACED, Proof, load, lost_around, merged, proof_of, save

_FLAGS = os.O_RDWR | os.O_CREAT
"""Not O_APPEND: splice(2) cannot. Reading is for the proof. O_CREAT, should somebody have deleted it."""

PROOF_EVERY_BYTES = 64 * 1024 * 1024
"""How far behind the newest bytes a proof may lie."""


class Guarded:
    """
    A new, empty file, in `directory` or else the current one. It is open from open() on; kept(fd) may move the
    descriptor. resumes: not a new one, but what an earlier worker and the shim have left, `begun` bytes.

    Methods are for the thread that writes at the time, except where said otherwise.

    Raises:
        OSError: the file cannot be made; nothing is left behind.
    """

    __slots__ = ("_directory", "_identity", "_kept", "astray", "begun", "fd", "losses", "name", "proof")

    def __init__(
        self, name: str, directory: Directory | None, kept: Callable[[int], int], resumes: bool = False
    ) -> None:
        self._directory = directory
        self._kept = kept
        self._identity = (0, 0)  # device and inode, once it is open
        self.name = name
        self.fd = -1
        self.astray = False  # what is written goes where nobody finds it
        self.losses: tuple[Loss, ...] = ()
        self.proof: Proof | None = None
        self.begun = 0
        if resumes:
            self.losses = load(name, self._dir_fd)
            with suppress(FileNotFoundError):  # deleted meanwhile: what comes makes it anew
                self.begun = os.stat(name, dir_fd=self._dir_fd, follow_symlinks=False).st_size
            return
        os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=self._dir_fd))

    @property
    def path(self) -> str:
        """For the log."""
        return self.name if self._directory is None else f"{self._directory.path}/{self.name}"

    def open(self) -> int:
        """
        Its descriptor.

        Raises:
            NotOurFile: something else is in its place.
            OSError: it cannot be opened.
        """
        if self.fd < 0:
            self._take(*self._found(self.begun))
            if self.begun:
                os.lseek(self.fd, 0, os.SEEK_END)
        return self.fd

    def tail(self, size: int) -> bytes:
        """The last bytes of what was there before."""
        with suppress(OSError):
            fd = open_own(self.name, os.O_RDONLY, dir_fd=self._dir_fd)
            try:
                return os.pread(fd, size, self.begun - size)
            finally:
                os.close(fd)
        return b""

    def close(self) -> None:
        """Again is harmless."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def remove(self) -> None:
        """The job never was."""
        with suppress(FileNotFoundError):
            os.unlink(self.name, dir_fd=self._dir_fd)

    def owns(self, found: os.stat_result) -> bool:
        """That is this very file, as far as anybody can tell. Any thread."""
        return not any(self._identity) or (found.st_dev, found.st_ino) == self._identity

    def trouble(self, size: int) -> Loss | None:
        """What others have done to it, as far as its name and its size tell, if it should have `size` bytes by now."""
        try:
            found = os.stat(self.name, dir_fd=self._dir_fd, follow_symlinks=False)
        except FileNotFoundError:
            return Loss(0, size, DELETED)
        except OSError:  # not known
            return None
        if not self.owns(found):
            return Loss(0, size, REPLACED)
        return Loss(found.st_size, size, CUT) if found.st_size < size else None

    def note(self, trouble: Loss) -> None:
        """Write that down for the next worker, should there be no time to put it right."""
        self._save([*self.losses, trouble])

    def is_whole(self, size: int) -> bool:
        """It has `size` bytes, and the next one goes behind them. A word with the kernel: for every block."""
        return os.lseek(self.fd, 0, os.SEEK_END) == size

    def is_proven(self) -> bool:
        """What was written at first, or some time ago, is there still."""
        return self.proof is None or self.proof.holds(self.fd)

    def prove(self, offset: int, few: bytes | memoryview | None = None) -> None:
        """There are bytes from that offset on, which begin with these; now and then they become the proof."""
        if self.proof is None or offset - self.proof.offset >= PROOF_EVERY_BYTES:
            self.proof = proof_of(offset, os.pread(self.fd, 16, offset) if few is None else few) or self.proof

    def put_right(self, size: int) -> Loss | None:
        """
        Find out what was lost of `size` bytes; the next one gets its offset nevertheless, in a new file if need be.
        """
        loss = self.trouble(size)
        if loss is not None and loss.what != CUT:
            self._begin_again(size)
        elif loss is None and self.proof is not None and not self.is_proven():
            loss = Loss(*lost_around(self.fd, self.proof.offset, size), CUT)
        os.lseek(self.fd, size, os.SEEK_SET)
        if loss is None or loss.begin == loss.end:
            if not self.astray and not self.is_whole(size):
                os.ftruncate(self.fd, size)  # somebody has added to it
                os.lseek(self.fd, size, os.SEEK_SET)
            self._save(self.losses)  # what was noted was not so
            return None
        if self.proof is not None and self.proof.offset >= loss.begin:
            self.proof = None
        self._remember(loss)
        return loss

    def finish(self, size: int) -> None:
        """Nothing more is written."""
        if self.astray and size:
            self._remember(Loss(0, size, self.losses[-1].what if self.losses else DELETED))

    def _begin_again(self, size: int) -> None:
        try:
            fd, found = self._found(size)
        except OSError:
            self.astray = True
            return
        os.close(self.fd)
        self._take(fd, found)
        self.proof = None

    def _found(self, most: int) -> tuple[int, os.stat_result]:
        """What is there by its name, if that may be written from so many bytes on; or a new file."""
        fd, found = open_own_and_stat(self.name, _FLAGS, dir_fd=self._dir_fd)
        if found.st_size > most:
            os.close(fd)
            raise NotOurFile(errno.EEXIST, "somebody else's bytes are in it", self.name)
        return fd, found

    def _take(self, fd: int, found: os.stat_result) -> None:
        self._identity = (found.st_dev, found.st_ino)
        self.fd = self._kept(fd)

    def _remember(self, loss: Loss) -> None:
        """Before anything is written behind it: who reads it meanwhile must know."""
        self.losses = merged([*self.losses, loss])
        self._save(self.losses)

    def _save(self, losses: Iterable[Loss]) -> None:
        with suppress(OSError):  # then it is known as long as the job runs
            save(self.name, merged(losses), self._dir_fd)

    @property
    def _dir_fd(self) -> int | None:
        return None if self._directory is None else self._directory.fd
