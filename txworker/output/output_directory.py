"""The output directory: which files belong to which job."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from txworker.base.directory import Directory, NotOurFile, refusal_for_root
from txworker.base.logs import Logger
from txworker.jobs import Loss
from txworker.jobs.held_process import HeldProcess
from txworker.output.job_output import Output
from txworker.output.losses import SUFFIX, load
from txworker.output.output_file import OutputFile
from txworker.output.recorder import Recorder
from txworker.ports import NO_OBSERVER, Observer


class OutputDirectory:
    """
    The output directory: `<job id>.out` for each job, `<job id>.err` for a separate stderr, and lists of losses.

    The directory is opened once, and files are opened relative to its descriptor, whatever happens to its path;
    check() opens it anew if the path leads elsewhere. relocate_fd(fd) may return another number for a descriptor that
    stays open for long. observer: is told of lost output.

    incomplete(job_id, child_fd, refused) may be set. It is called for the output of that descriptor (1 or 2) as
    Recorder calls its own; reactor thread.

    Raises:
        OSError: the directory cannot be created or written, or is unsafe for a worker that runs as root.
    """

    _log = Logger()

    def __init__(
        self, directory: Path, relocate_fd: Callable[[int], int] = lambda fd: fd, observer: Observer = NO_OBSERVER
    ) -> None:
        self._relocate_fd = relocate_fd
        self._lost = observer.output_lost
        self.incomplete: Callable[[str, int, int], None] = lambda job_id, child_fd, refused: None
        self._outputs: dict[str, Output] = {}  # all that are open, and closed ones that check() has not removed yet
        self._problem = ""  # why there is no directory for new output
        self._start_failed = False
        self.problem = ""
        """Why no job's output can be created, as the last check() found it; empty: it can. Any thread."""
        self._directory = self._open_directory(directory)
        self.permission_problem = self._directory.permission_problem
        self._tell = self._tell_incomplete  # one bound method for all

    def create(self, job_id: str, separate_stderr: bool, max_bytes: int = 0) -> Output:
        """
        Create empty output for a job, of at most `max_bytes` (0: no ceiling) in each file. Reactor thread.

        Raises:
            OSError: a file cannot be created; none is left behind.
        """
        try:
            return self._create(job_id, separate_stderr, max_bytes)
        except OSError:
            self._start_failed = True
            raise

    def _create(self, job_id: str, separate_stderr: bool, max_bytes: int) -> Output:
        try:
            out = self._create_recorder(job_id, False, max_bytes)
        except FileNotFoundError:  # the directory was deleted
            self._check_directory()
            out = self._create_recorder(job_id, False, max_bytes)
        try:
            err = self._create_recorder(job_id, True, max_bytes) if separate_stderr else None
        except OSError:
            out.discard()
            raise
        return self._remember(job_id, out, err)

    def resume(self, held: HeldProcess, separate_stderr: bool) -> Output:
        """
        The output of a job that an earlier worker has started; recording goes on at its end.

        Raises:
            OSError: a file cannot be opened.
        """
        names = _names(held.job_id, separate_stderr)
        out, *err = (
            Recorder(self._existing(name), held.max_output, lost, discarded, self._lost, incomplete, self._tell)
            for name, lost, discarded, incomplete in zip(
                names, held.lost, held.discarded, held.incomplete, strict=False
            )
        )
        return self._remember(held.job_id, out, err[0] if err else None)

    def path(self, job_id: str, stderr: bool) -> Path:
        """The path of a job's output, or of its separate stderr. Any thread."""
        return self._directory.path / _name(job_id, stderr)

    def open(self, job_id: str, stderr: bool) -> int:
        """
        Open a file for reading; return the descriptor. Any thread.

        Raises:
            FileNotFoundError: it does not exist.
            NotOurFile: the worker did not make what is there.
            OSError: it cannot be opened.
        """
        return self._directory.open(_name(job_id, stderr), os.O_RDONLY)

    def bytes_of(self, job_id: str, stderr: bool) -> int | None:
        """The size of a file in bytes; None if it does not exist. Any thread."""
        with suppress(OSError):
            return self._directory.stat(_name(job_id, stderr)).st_size
        return None

    def losses(self, job_id: str, stderr: bool) -> tuple[Loss, ...]:
        """The bytes that other processes removed from a file while its job ran. Any thread."""
        return load(_name(job_id, stderr), self._directory.fd)

    def recover(self, job_id: str, separate_stderr: bool) -> int:
        """
        The size in bytes of the output that a worker left behind when it was killed.

        Creates missing files, empty: that worker may have been killed before it created them, and every job's output
        can be asked for.
        """
        size = 0
        for name in _names(job_id, separate_stderr):
            with suppress(OSError):  # a full disk must not keep the worker from starting
                fd = self._directory.open(name, os.O_WRONLY | os.O_CREAT)
                size += os.fstat(fd).st_size
                os.close(fd)
        return size

    def is_damaged(self, job_id: str, separate_stderr: bool, begun: bool) -> bool:
        """
        Another process has removed output of the job: an earlier worker has noted it, or a file is not ours or missing.

        begun: the files once existed, so a missing one is damage.
        """
        names = _names(job_id, separate_stderr)
        return any(self._directory.has(name + SUFFIX) or not self._is_ours(name, begun) for name in names)

    def has(self, job_id: str) -> bool:
        """There is output of a job with this id."""
        return "/" not in job_id and self._directory.has(_name(job_id, stderr=False))

    def job_ids(self) -> list[str]:
        """The ids of the jobs that have output here."""
        with suppress(OSError):
            return sorted(name.removesuffix(".out") for name in self._directory.names() if name.endswith(".out"))
        return []

    def remove(self, job_ids: Iterable[str]) -> None:
        """Delete the output of these jobs. Any thread; raises OSError."""
        for job_id in job_ids:
            for name in _names(job_id, separate_stderr=True):
                self._directory.remove(name)
                self._directory.remove(name + SUFFIX)

    def check(self) -> None:
        """
        Look whether another process has changed the directory, or a file in use; and, if output could not be created,
        whether it can be now.

        Called once a second, in any thread because the disk may not answer; one call at a time.
        """
        self._check_directory()
        self.problem = self._problem or self._refusal()
        for job_id, output in list(self._outputs.items()):
            if output.closed:
                self._outputs.pop(job_id, None)
            else:
                output.check()

    def _refusal(self) -> str:
        """Why no file can be made. Tried only since a start has failed, until it succeeds."""
        if not self._start_failed:
            return ""
        path, before = self._directory.path, self.problem
        self._start_failed = False  # before the attempt: a start may fail during it
        try:
            _make_file(self._directory)
        except OSError as error:
            self._start_failed = True
            if not before:
                text = "No output file can be made in {path}: no new jobs until there can be one ({error})."
                self._log.error(text, path=path, error=error)
            return f"no output file can be made in {path}: {error.strerror or error}"
        if before:
            self._log.info("Output files can be made in {path} again.", path=path)
        return ""

    def _is_ours(self, name: str, begun: bool) -> bool:
        try:
            os.close(self._directory.open(name, os.O_RDONLY))
        except NotOurFile:
            return False
        except FileNotFoundError:
            return not begun
        except OSError:  # unknown
            pass
        return True

    def _create_recorder(self, job_id: str, stderr: bool, max_bytes: int) -> Recorder:
        if self._problem:
            raise OSError(errno.ENOENT, self._problem, str(self._directory.path))
        file = OutputFile.create(_name(job_id, stderr), self._directory, self._relocate_fd)
        return Recorder(file, max_bytes, lost=self._lost, incomplete=self._tell)

    def _tell_incomplete(self, name: str, refused: int) -> None:
        job_id, _, suffix = name.rpartition(".")
        self.incomplete(job_id, 2 if suffix == "err" else 1, refused)

    def _existing(self, name: str) -> OutputFile:
        return OutputFile.existing(name, self._directory, self._relocate_fd)

    def _remember(self, job_id: str, out: Recorder, err: Recorder | None) -> Output:
        output = self._outputs[job_id] = Output(out, err)
        return output

    def _open_directory(self, path: Path) -> Directory:
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

    def _check_directory(self) -> None:
        """If the directory was deleted or replaced, continue in the one at its path, or in a new one."""
        path = self._directory.path
        if self._directory.in_place:
            self._problem = ""
            return
        try:
            self._directory.replace(self._open_directory(path))
        except OSError as error:
            if not self._problem:
                self._log.error(
                    "The output directory {path} has been deleted or replaced: no new jobs until there is one that can "
                    "be used ({error}).",
                    path=path,
                    error=error,
                )
            self._problem = f"the directory has been deleted or replaced: {error.strerror or error}"
        else:
            self._problem = ""
            self._log.warn(
                "The output directory {path} has been deleted or replaced. New output goes to the directory that is "
                "there now; output in the old one is no longer found.",
                path=path,
            )


def _name(job_id: str, stderr: bool) -> str:
    """The file name as a str, because building a Path takes longer and each launch needs a name."""
    return f"{job_id}.{'err' if stderr else 'out'}"


def _names(job_id: str, separate_stderr: bool) -> list[str]:
    return [_name(job_id, stderr) for stderr in (False, True)[: 1 + separate_stderr]]


def _check_writable(directory: Directory) -> None:
    """
    Create and remove a file, because os.access() does not know what root may not do (a read-only file system).

    Errors of a full disk are ignored.
    """
    try:
        _make_file(directory)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT):
            raise PermissionError(
                error.errno, f"no file can be made in it: {error.strerror}", str(directory.path)
            ) from error


def _make_file(directory: Directory) -> None:
    """Create a file and remove it. Raises OSError."""
    probe = f".txworker-{os.getpid()}"
    directory.remove(probe)
    directory.create(probe)
    directory.remove(probe)
