"""Which file belongs to which job."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from txworker.output.both import Output
from txworker.output.recorder import Recorder


class Shelf:
    """
    A directory of output files: `<job id>.out`, and `<job id>.err` where stderr is kept apart. kept(fd) may move a
    descriptor that is held for long.

    Raises:
        OSError: the directory cannot be made, or not be written.
    """

    def __init__(self, directory: Path, kept: Callable[[int], int] = lambda fd: fd) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_writable(directory)
        self._directory = str(directory)
        self._kept = kept

    def create(self, job_id: str, separate_stderr: bool, max_bytes: int = 0) -> Output:
        """
        New, empty output for a job, of so many bytes at most (0: no ceiling) in each file. Reactor thread.

        Raises:
            OSError: a file cannot be made; none is left.
        """
        out = Recorder(self._path(job_id, stderr=False), max_bytes, self._kept)
        try:
            err = Recorder(self._path(job_id, stderr=True), max_bytes, self._kept) if separate_stderr else None
        except OSError:
            Output(out, None).discard()
            raise
        return Output(out, err)

    def path(self, job_id: str, stderr: bool) -> Path:
        """Where a job's output is, or its separate stderr. Any thread."""
        return Path(self._path(job_id, stderr))

    def recover(self, job_id: str, separate_stderr: bool) -> int:
        """
        Bytes that a dead worker has left of a job's output.

        It may have died between writing the job down and making the files: what is missing is made, empty, so that
        the output can be asked for like any other.
        """
        size = 0
        for stderr in (False, True)[: 1 + separate_stderr]:
            with suppress(OSError):  # a disk that is full now must not keep the worker from starting
                fd = os.open(self.path(job_id, stderr), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
                size += os.fstat(fd).st_size
                os.close(fd)
        return size

    def has(self, job_id: str) -> bool:
        """A job with that id has printed here."""
        return "/" not in job_id and os.path.exists(self.path(job_id, stderr=False))

    def remove(self, job_ids: Iterable[str]) -> None:
        """Delete the output of these jobs. Any thread; raises OSError."""
        for job_id in job_ids:
            for stderr in (False, True):
                self.path(job_id, stderr).unlink(missing_ok=True)

    def _path(self, job_id: str, stderr: bool) -> str:
        """For each launch: to make a Path is dear."""
        return f"{self._directory}/{job_id}.{'err' if stderr else 'out'}"


def _check_writable(directory: Path) -> None:
    """By making a file, for os.access() knows nothing of what root may not do either. A full disk passes."""
    probe = directory / f".txworker-{os.getpid()}"
    try:
        os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        probe.unlink()
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT):
            raise PermissionError(
                error.errno, f"no file can be made in it: {error.strerror}", str(directory)
            ) from error
