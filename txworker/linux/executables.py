"""Which file a job's argv[0] names (execvp(3), with the job's own PATH and directory)."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping

_NOT_HERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ESTALE)
"""A directory of PATH that leads nowhere is passed over, however it does so."""


def candidates(executable: str, environment: Mapping[str, str]) -> Iterator[str]:
    """Where that executable may be: itself when it has a slash, else in each directory of the job's own PATH."""
    if "/" in executable:
        yield executable
        return
    for directory in environment.get("PATH", os.defpath).split(os.pathsep):
        yield os.path.join(directory or os.curdir, executable)


def find_executable(executable: str, environment: Mapping[str, str], directory: str | None) -> str:
    """
    The file to execute, as seen from the job's directory. It may wait for the disk, so not in the reactor thread.

    Raises:
        OSError: no directory of PATH has such a file, or none has one that may be executed. Only without a slash.
    """
    if "/" in executable:
        return executable
    problem = errno.ENOENT
    for candidate in candidates(executable, environment):
        seen_from_here = os.path.join(directory or os.curdir, candidate)
        if os.path.isfile(seen_from_here):
            if os.access(seen_from_here, os.X_OK):
                return candidate
            problem = errno.EACCES
    raise OSError(problem, os.strerror(problem), executable)


def execute(argv: list[str], environment: Mapping[str, str]) -> None:
    """
    Become that program: the first candidate that can be executed.

    Raises:
        OSError: none can be executed; "permission denied" is preferred to "no such file".
    """
    problem: OSError | None = None
    whole = dict(environment)
    for candidate in candidates(argv[0], environment):
        try:
            os.execve(candidate, argv, whole)
        except PermissionError as error:  # noqa: PERF203 a few times per start
            problem = error
        except OSError as error:
            if error.errno not in _NOT_HERE:
                raise
            problem = problem or error
    raise problem or FileNotFoundError(errno.ENOENT, "PATH is empty")
