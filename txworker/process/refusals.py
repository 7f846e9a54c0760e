"""Why a child could not be started: what the kernel says, in our words."""

from __future__ import annotations

import errno
import os
from contextlib import suppress

from txworker.jobs.errors import (
    InvalidRequest,
    NoSuchDirectory,
    NoSuchExecutable,
    NotPermitted,
    OutOfResources,
    TxWorkerError,
)

_FIRST_LINE_BYTES = 256

_SHORTAGES = {
    errno.EMFILE: "the worker has no file descriptors left",
    errno.ENFILE: "the machine has no file descriptors left",
    errno.EAGAIN: "the machine allows no further process",
    errno.ENOMEM: "the machine has no memory left",
    errno.ENOSPC: "the disk is full",
}


def in_our_words(error: OSError, executable: str, directory: str) -> TxWorkerError:
    """
    Why that executable could not be started there. May ask the disk whether it exists.

    error.filename is the directory, the executable, a step before the exec (prepared.py), or None for the rest; "clone"
    and "preparer" when no child could be made at all.
    """
    ours = error.filename not in (None, directory, executable, "clone", "preparer")
    if error.errno in _SHORTAGES and not ours:
        return OutOfResources(_SHORTAGES[error.errno])
    if error.filename in ("clone", "preparer"):
        if error.errno == errno.ETIMEDOUT:
            return OutOfResources(f"{executable!r} was not begun in time: its disk or network does not answer")
        return OutOfResources(f"the program that prepares jobs could not start {executable!r}: {error.strerror}")
    if ours:
        return OutOfResources(f"{error.filename}: the job could not be given this: {error.strerror}")
    if error.filename == directory:
        if error.errno in (errno.EACCES, errno.EPERM):
            return NotPermitted("directory", directory)
        return NoSuchDirectory(directory, "is not a directory" if os.path.exists(directory) else "no such directory")
    if error.errno == errno.ENOENT and _is_there(executable, directory):
        return NoSuchExecutable(executable, _about_interpreter(os.path.join(directory, executable)))
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
        return NoSuchExecutable(executable)
    if error.errno in (errno.EACCES, errno.EPERM):
        return NotPermitted("command", executable, _about_permission(os.path.join(directory, executable)))
    if error.errno == errno.ENOEXEC:
        return InvalidRequest("command", executable, "is neither a program nor a script with a #! line")
    if error.errno == errno.E2BIG:
        return InvalidRequest("args", executable, "with its arguments and environment is too long for this machine")
    if error.errno == errno.ENAMETOOLONG:
        return InvalidRequest("command", executable, "is too long for a file name")
    return OutOfResources(f"the machine could not start {executable!r}: {os.strerror(error.errno or 0)}")


def _about_interpreter(path: str) -> str:
    with suppress(OSError), open(path, "rb") as file:
        if file.readline(_FIRST_LINE_BYTES).endswith(b"\r\n"):
            return "the interpreter that its first line names is not there: the line ends with CR LF, as on Windows"
    return "the interpreter that its first line names is not there"


def _about_permission(path: str) -> str:
    if os.path.isdir(path):
        return "is a directory, not a program"
    if os.path.isfile(path) and not os.stat(path).st_mode & 0o111:
        return "is not executable (chmod +x)"
    return "the worker has no permission to use it"


def _is_there(executable: str, directory: str) -> bool:
    return "/" in executable and os.path.exists(os.path.join(directory, executable))
