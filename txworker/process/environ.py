"""What a job's process is given to begin with: its environment, and the file that its first word means."""

from __future__ import annotations

import errno
import os
from collections import ChainMap
from collections.abc import Iterator, Mapping

from txworker.jobs import MARK, JobSpec


def environment(base: Mapping[str, str], spec: JobSpec, job_id: str) -> ChainMap[str, str]:
    """
    The worker's own environment, what the order adds to it, and the mark by which the job can be told.

    `base` is its last map as it is, not a copy: so who needs it in another form may make that once for all jobs.
    """
    return ChainMap({**spec.env, MARK: job_id}, base)  # type: ignore[arg-type]  # nobody writes into the last map


def places(executable: str, environment: Mapping[str, str]) -> Iterator[str]:
    """Where that executable may be: itself when it holds a slash, else in each directory of the job's own PATH."""
    if "/" in executable:
        yield executable
        return
    for directory in environment.get("PATH", os.defpath).split(os.pathsep):
        yield os.path.join(directory or os.curdir, executable)


def find_executable(executable: str, environment: Mapping[str, str], directory: str | None) -> str:
    """
    The file to execute, seen from the job's directory.

    Raises:
        OSError: with a word without a slash, no directory of PATH has it, or none that may be executed.
    """
    if "/" in executable:
        return executable
    problem = errno.ENOENT
    for place in places(executable, environment):
        seen_from_here = os.path.join(directory or os.curdir, place)
        if os.path.isfile(seen_from_here):
            if os.access(seen_from_here, os.X_OK):
                return place
            problem = errno.EACCES
    raise OSError(problem, os.strerror(problem), executable)
