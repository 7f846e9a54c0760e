"""Why a process could not be started: what the kernel says, as an error of the worker's."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping

from txworker.jobs.errors import (
    ExecutableBusy,
    InvalidRequest,
    NoSuchDirectory,
    NoSuchExecutable,
    NotPermitted,
    OutOfResources,
    TxWorkerError,
)
from txworker.linux.executables import candidates
from txworker.process.exec_diagnosis import Subject, entering, executing, missing

_SHORTAGES = {
    errno.EMFILE: "the worker has no file descriptors left",
    errno.ENFILE: "the machine has no file descriptors left",
    errno.EAGAIN: "the machine allows no further process",
    errno.ENOMEM: "the machine has no memory left",
    errno.ENOSPC: "the disk is full",
}
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
    Why that executable could not be started there. May ask the disk what is in the way.

    error.filename is the directory, the executable, a step before the exec, or None for the rest; "clone" and "shim"
    when no process could be made at all. environment, whose PATH counts, and subject are the job's.
    """
    ours = error.filename not in (None, directory, executable, "clone", "shim")
    if error.errno in _SHORTAGES and not ours:
        return OutOfResources(_SHORTAGES[error.errno])
    if error.filename in ("clone", "shim"):
        return OutOfResources(f"no process could be made for {executable!r}: {error.strerror}")
    if ours:
        return OutOfResources(f"{error.filename}: the job could not be given this: {error.strerror}")
    subject = subject or Subject.of(None)
    if error.filename == directory:
        return _about_directory(error, directory, subject)
    return _about_command(error, executable, directory, environment or os.environ, subject)


def _about_directory(error: OSError, directory: str, subject: Subject) -> TxWorkerError:
    if error.errno in _FORBIDDEN:
        problem = entering(directory, subject)
        return NotPermitted("directory", directory, problem or f"{subject} may not enter it: {error.strerror}")
    if error.errno in _NOT_THERE:
        there = os.path.exists(directory) and not os.path.isdir(directory)
        return NoSuchDirectory(directory, "is not a directory" if there else "no such directory")
    if error.errno == errno.ENAMETOOLONG:
        return InvalidRequest("directory", directory, "is too long for a file name")
    return OutOfResources(f"directory: {directory!r} cannot be entered: {error.strerror}")


def _about_command(
    error: OSError, executable: str, directory: str, environment: Mapping[str, str], subject: Subject
) -> TxWorkerError:
    if error.errno in _NOT_THERE:
        place = next(filter(os.path.isfile, _places(executable, directory, environment)), None)
        return (
            NoSuchExecutable(executable) if place is None else NoSuchExecutable(executable, missing(place, directory))
        )
    if error.errno in _FORBIDDEN:
        return _forbidden(error, executable, directory, environment, subject)
    if error.errno == errno.ETXTBSY:
        return ExecutableBusy(executable)
    if error.errno == errno.ENOEXEC:
        return InvalidRequest("command", executable, "is neither a program nor a script with a #! line")
    if error.errno == errno.E2BIG:
        return InvalidRequest("args", executable, "with its arguments and environment is too long for this machine")
    if error.errno == errno.ENAMETOOLONG:
        return InvalidRequest("command", executable, "is too long for a file name")
    return OutOfResources(f"the machine could not start {executable!r}: {os.strerror(error.errno or 0)}")


def _forbidden(
    error: OSError, executable: str, directory: str, environment: Mapping[str, str], subject: Subject
) -> TxWorkerError:
    """Of a word without a slash: what is the matter with the first file of PATH, or with a directory of it."""
    places = list(_places(executable, directory, environment))
    in_path = "/" not in executable
    for place in filter(os.path.isfile, places) if in_path else places:
        problem = executing(place, directory, subject, error.strerror or "")
        return NotPermitted("command", executable, f"{place}: {problem}" if in_path else problem)
    if not subject.ours:  # the worker sees more than the jobs' user, and has not seen it
        return NoSuchExecutable(executable)
    closed = (entering(os.path.dirname(place), subject) for place in places)
    return NotPermitted("command", executable, next(filter(None, closed), f"{subject} may not execute it"))


def _places(executable: str, directory: str, environment: Mapping[str, str]) -> Iterator[str]:
    return (os.path.join(directory, candidate) for candidate in candidates(executable, environment))
