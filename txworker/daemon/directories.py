"""The directories that the configuration names, checked at start: a danger is a warning, or for root a refusal."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from txworker.base.directory import Directory, permission_problem_of, refusal_for_root
from txworker.base.logs import Logger
from txworker.output.output_directory import OutputDirectory
from txworker.ports import NO_OBSERVER, Observer

_log = Logger()


class NotUsable(Exception):
    """What a key of the configuration names cannot be used; the sentence begins with the key."""


def open_output_directory(path: Path, observer: Observer = NO_OBSERVER) -> OutputDirectory:
    """
    The output files in jobs.output_directory, which is made if it does not exist.

    Raises:
        NotUsable: it cannot be opened, or is not safe.
    """
    key = "jobs.output_directory"
    try:
        outputs = OutputDirectory(path, observer=observer)
    except OSError as error:
        raise NotUsable(f"{key}: {error.filename or path}: {error.strerror}") from error
    _warn_of(key, path, outputs.permission_problem)
    return outputs


def check_state_directory(path: Path) -> None:
    """
    Make jobs.state_directory if it does not exist, and warn if others can replace what is in it.

    Raises:
        NotUsable: it cannot be opened, or is not safe.
    """
    key = "jobs.state_directory"
    try:
        directory = Directory(path)
    except OSError as error:
        raise NotUsable(f"{key}: {error.filename or path}: {error.strerror}") from error
    directory.close()
    if refusal_for_root(directory.permission_problem):
        raise NotUsable(f"{key}: {path}: {refusal_for_root(directory.permission_problem)}")
    _warn_of(key, path, directory.permission_problem)


def warn_of_log_directory(path: Path) -> None:
    """Warn if others can replace the log file, by a link to another file say, to which the worker would then write."""
    with suppress(OSError):  # it was found when the log was opened; the worker runs without knowing more of it
        _warn_of("twistd --logfile", path, permission_problem_of(path))


def _warn_of(key: str, path: Path, problem: str) -> None:
    if problem:
        _log.warn("{key}: others can change what is in {path}: {problem}.", key=key, path=path, problem=problem)
