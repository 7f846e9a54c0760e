"""Which file belongs to which job."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from txworker.base.directory import Directory, NotOurFile, refusal_for_root
from txworker.base.logs import Logger
from txworker.jobs import Loss
from txworker.output.both import Output
from txworker.output.losses import ENDING, load
from txworker.output.recorder import Recorder


class Shelf:
    """
    A directory of output files: `<job id>.out`, and `<job id>.err` where stderr is kept apart. kept(fd) may move a
    descriptor that is held for long.

    The directory is opened once; whatever becomes of its path, the files are in this one. look() sees to it that it
    stays the one that has the path.

    Raises:
        OSError: the directory cannot be made, or not be written; or others could lead the worker elsewhere by it.
    """

    _log = Logger()

    def __init__(self, directory: Path, kept: Callable[[int], int] = lambda fd: fd) -> None:
        self._kept = kept
        self._outputs: dict[str, Output] = {}  # those that are not closed, and some that are
        self._missing = ""
        self._directory = self._opened(directory)
        self.permission_problem = self._directory.permission_problem

    def create(self, job_id: str, separate_stderr: bool, max_bytes: int = 0) -> Output:
        """
        New, empty output for a job, of so many bytes at most (0: no ceiling) in each file. Reactor thread.

        Raises:
            OSError: a file cannot be made; none is left.
        """
        try:
            out = self._recorder(job_id, False, max_bytes)
        except FileNotFoundError:  # the directory itself is not there any more
            self._look_at_directory()
            out = self._recorder(job_id, False, max_bytes)
        try:
            err = self._recorder(job_id, True, max_bytes) if separate_stderr else None
        except OSError:
            out.discard()
            raise
        output = Output(out, err)
        self._outputs[job_id] = output
        return output

    def resume(
        self, job_id: str, separate_stderr: bool, max_bytes: int, lost: Sequence[int], discarded: Sequence[int]
    ) -> Output:
        """The output of a job that an earlier worker has started, to be gone on with. As Recorder.resumed."""
        out = self._resumed(job_id, False, max_bytes, lost[0], discarded[0])
        err = self._resumed(job_id, True, max_bytes, lost[1], discarded[1]) if separate_stderr else None
        output = Output(out, err)
        self._outputs[job_id] = output
        return output

    def _resumed(self, job_id: str, stderr: bool, max_bytes: int, lost: int, discarded: int) -> Recorder:
        name = _name(job_id, stderr)
        return Recorder.resumed(name, max_bytes, self._kept, self._directory, lost, discarded)

    def path(self, job_id: str, stderr: bool) -> Path:
        """Where a job's output is, or its separate stderr. Any thread."""
        return self._directory.path / _name(job_id, stderr)

    def open(self, job_id: str, stderr: bool) -> int:
        """
        A descriptor to read it by. Any thread.

        Raises:
            FileNotFoundError: it is not there.
            NotOurFile: what is there is none of the worker's files.
            OSError: it cannot be opened.
        """
        return self._directory.open(_name(job_id, stderr), os.O_RDONLY)

    def bytes_of(self, job_id: str, stderr: bool) -> int | None:
        """How many are in that file; None when it is not there. Any thread."""
        with suppress(OSError):
            return self._directory.stat(_name(job_id, stderr)).st_size
        return None

    def losses(self, job_id: str, stderr: bool) -> tuple[Loss, ...]:
        """What others have taken away of it while its job ran. Any thread."""
        return load(_name(job_id, stderr), self._directory.fd)

    def recover(self, job_id: str, separate_stderr: bool) -> int:
        """
        Bytes that a dead worker has left of a job's output.

        It may have died between writing the job down and making the files: what is missing is made, empty, so that
        the output can be asked for like any other.
        """
        size = 0
        for stderr in (False, True)[: 1 + separate_stderr]:
            with suppress(OSError):  # a disk that is full now must not keep the worker from starting
                fd = self._directory.open(_name(job_id, stderr), os.O_WRONLY | os.O_CREAT)
                size += os.fstat(fd).st_size
                os.close(fd)
        return size

    def is_damaged(self, job_id: str, separate_stderr: bool, begun: bool) -> bool:
        """
        Others have taken something away of what a job printed: a worker has seen it, or it is plain to see. begun: its
        files were there once.
        """
        names = [_name(job_id, stderr) for stderr in (False, True)[: 1 + separate_stderr]]
        return any(self._directory.has(name + ENDING) or not self._is_whole(name, begun) for name in names)

    def has(self, job_id: str) -> bool:
        """A job with that id has printed here."""
        return "/" not in job_id and self._directory.has(_name(job_id, stderr=False))

    def job_ids(self) -> list[str]:
        """Whose output is here."""
        with suppress(OSError):
            return sorted(name.removesuffix(".out") for name in self._directory.names() if name.endswith(".out"))
        return []

    def remove(self, job_ids: Iterable[str]) -> None:
        """Delete the output of these jobs. Any thread; raises OSError."""
        for job_id in job_ids:
            for stderr in (False, True):
                self._directory.remove(_name(job_id, stderr))
                self._directory.remove(_name(job_id, stderr) + ENDING)

    def look(self) -> None:
        """
        Has somebody done something to the directory, or to a file in use? Once a second, in any thread, for a disk may
        not answer; one call at a time.
        """
        self._look_at_directory()
        for job_id, output in list(self._outputs.items()):
            if output.closed:
                self._outputs.pop(job_id, None)
            else:
                output.look()

    def _is_whole(self, name: str, begun: bool) -> bool:
        try:
            os.close(self._directory.open(name, os.O_RDONLY))
        except NotOurFile:
            return False
        except FileNotFoundError:
            return not begun
        except OSError:  # not known
            pass
        return True

    def _recorder(self, job_id: str, stderr: bool, max_bytes: int) -> Recorder:
        if self._missing:
            raise OSError(errno.ENOENT, self._missing, str(self._directory.path))
        return Recorder(_name(job_id, stderr), max_bytes, self._kept, self._directory)

    def _opened(self, path: Path) -> Directory:
        directory = Directory(path)
        try:
            problem = refusal_for_root(directory.permission_problem)
            if problem:
                raise PermissionError(errno.EPERM, problem, str(path))
            _check_writable(directory)
        except OSError:
            directory.close()
            raise
        return directory

    def _look_at_directory(self) -> None:
        """Somebody has deleted it, or put another in its place: go on in the one that has its path, or in a new one."""
        path = self._directory.path
        if self._directory.in_place:
            self._missing = ""
            return
        try:
            self._directory.replace(self._opened(path))
        except OSError as error:
            if not self._missing:
                self._log.error(
                    "The output directory {path} has been deleted or replaced: no new jobs until there is one that can "
                    "be used ({error}).",
                    path=path,
                    error=error,
                )
            self._missing = f"the directory has been deleted or replaced: {error.strerror or error}"
        else:
            self._missing = ""
            self._log.warn(
                "The output directory {path} has been deleted or replaced. New output goes to the one that is there "
                "now; what was in the other is not found any more.",
                path=path,
            )


def _name(job_id: str, stderr: bool) -> str:
    """For each launch: to make a Path is dear."""
    return f"{job_id}.{'err' if stderr else 'out'}"


def _check_writable(directory: Directory) -> None:
    """By making a file, for os.access() knows nothing of what root may not do either. A full disk passes."""
    probe = f".txworker-{os.getpid()}"
    try:
        directory.remove(probe)
        directory.create(probe)
        directory.remove(probe)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT):
            raise PermissionError(
                error.errno, f"no file can be made in it: {error.strerror}", str(directory.path)
            ) from error
