"""Turns the OSError of a launch into a TxWorkerError that says what is wrong."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping
from itertools import islice

from txworker.jobs.errors import (
    ExecutableBusy,
    InvalidRequest,
    NoSuchDirectory,
    NoSuchExecutable,
    NotExecutable,
    NotPermitted,
    OutOfResources,
    ShimEnded,
    TxWorkerError,
    WorkerStopping,
    shown,
)
from txworker.linux.executables import candidates
from txworker.process.exec_diagnosis import (
    Subject,
    why_not_a_program,
    why_not_enterable,
    why_not_executable,
    why_not_found,
    why_not_there,
)

_SHORTAGES = {
    errno.EMFILE: "the worker has no file descriptors left",
    errno.ENFILE: "the machine has no file descriptors left",
    errno.EAGAIN: "the machine allows no further process",
    errno.ENOMEM: "the machine has no memory left",
    errno.ENOSPC: "the disk is full",
}
_MOST_CANDIDATES = 50
"""Directories of a job's PATH that are looked at, in the reactor; a PATH of 128 KiB may have 60,000."""

_NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
_FORBIDDEN = (errno.EACCES, errno.EPERM)


def to_worker_error(
    error: OSError,
    executable: str,
    directory: str,
    environment: Mapping[str, str] | None = None,
    subject: Subject | None = None,
) -> TxWorkerError:
    """
    The reason why that executable could not be started in that directory. May block on the disk to find it.

    error.filename: the directory, the executable, or a step before the exec; None: unknown; "clone": no process could
    be made; "shim": the shim has ended. error.errno ESHUTDOWN: the worker is stopping.
    environment (its PATH counts) and subject are the job's.
    """
    in_step = error.filename not in (None, directory, executable, "clone", "shim")
    if error.errno in _SHORTAGES and not in_step:
        return OutOfResources(_SHORTAGES[error.errno])
    if error.errno == errno.ESHUTDOWN:
        return WorkerStopping()
    if error.filename == "shim":
        return ShimEnded(executable)
    if error.filename == "clone":
        return OutOfResources(f"no process could be made for {executable!r}: {error.strerror}")
    if in_step:
        return OutOfResources(f"{error.filename}: the job could not be given this: {error.strerror}")
    subject = subject or Subject.of(None)
    if error.filename == directory:
        return _about_directory(error, directory, subject)
    return _about_command(error, executable, directory, environment or os.environ, subject)


def _about_directory(error: OSError, directory: str, subject: Subject) -> TxWorkerError:
    if error.errno in _FORBIDDEN:
        problem = why_not_enterable(directory, subject)
        return NotPermitted("directory", directory, problem or f"{subject} may not enter it: {error.strerror}")
    if error.errno in _NOT_THERE:
        there = os.path.exists(directory) and not os.path.isdir(directory)
        return NoSuchDirectory(
            directory, "is not a directory" if there else why_not_there(directory) or "no such directory"
        )
    if error.errno == errno.ENAMETOOLONG:
        return InvalidRequest("directory", directory, "is too long for a file name")
    return OutOfResources(f"directory: {directory!r} cannot be entered: {error.strerror}")


def _about_command(
    error: OSError, executable: str, directory: str, environment: Mapping[str, str], subject: Subject
) -> TxWorkerError:
    if error.errno in _NOT_THERE:
        return _not_there(executable, directory, environment)
    if error.errno in _FORBIDDEN:
        return _forbidden(error, executable, directory, environment, subject)
    if error.errno == errno.ETXTBSY:
        return ExecutableBusy(executable)
    if error.errno == errno.ENOEXEC:
        return _not_a_program(executable, directory, environment, subject)
    if error.errno == errno.E2BIG:
        return InvalidRequest("args", executable, "with its arguments and environment is too long for this machine")
    if error.errno == errno.ENAMETOOLONG:
        return InvalidRequest("command", executable, "is too long for a file name")
    return OutOfResources(f"the machine could not start {executable!r}: {os.strerror(error.errno or 0)}")


def _not_there(executable: str, directory: str, environment: Mapping[str, str]) -> NoSuchExecutable:
    paths = list(_paths(executable, directory, environment))
    file = next(filter(os.path.isfile, paths), None)
    if file is not None:
        return NoSuchExecutable(executable, why_not_found(file, directory))
    no_file = next(filter(os.path.isdir, paths), None)
    if no_file is not None:
        return NoSuchExecutable(executable, f"{shown(no_file)} is a directory, not a program")
    problem = why_not_there(paths[0]) if "/" in executable else ""
    return NoSuchExecutable(executable, problem or "no such executable")


def _not_a_program(executable: str, directory: str, environment: Mapping[str, str], subject: Subject) -> NotExecutable:
    files = filter(os.path.isfile, _paths(executable, directory, environment))
    file = next(filter(subject.may_execute, files), executable)
    return NotExecutable(executable, why_not_a_program(file, directory))


def _forbidden(
    error: OSError, executable: str, directory: str, environment: Mapping[str, str], subject: Subject
) -> TxWorkerError:
    """For a command without a slash: the problem of the first such file in PATH, or of a directory in PATH."""
    paths = list(_paths(executable, directory, environment))
    in_path = "/" not in executable
    for path in filter(os.path.isfile, paths) if in_path else paths:
        problem = why_not_executable(path, directory, subject, error.strerror or "")
        return NotPermitted("command", executable, f"{path}: {problem}" if in_path else problem)
    if not subject.ours or any(map(os.path.isdir, paths)):  # the worker has not found it, for another user or itself
        return _not_there(executable, directory, environment)
    closed = (why_not_enterable(os.path.dirname(path), subject) for path in paths)
    return NotPermitted("command", executable, next(filter(None, closed), f"{subject} may not execute it"))


def _paths(executable: str, directory: str, environment: Mapping[str, str]) -> Iterator[str]:
    found = islice(candidates(executable, environment), _MOST_CANDIDATES)
    return (os.path.join(directory, candidate) for candidate in found)
