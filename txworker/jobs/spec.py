"""What a job is asked to be: JobSpec, which refuses nonsense when it is made. Nothing here runs anything."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from txworker.jobs.errors import InvalidRequest
from txworker.jobs.limits import Limits

MARK = "TXWORKER_JOB_ID"
"""The environment variable by which a job, and whatever descends from it, can be told."""

LONGEST_ARGUMENT_BYTES = 128 * 1024 - 1
"""Linux takes no longer single argument or NAME=value (MAX_ARG_STRLEN, 32 pages with its NUL; execve(2))."""


@dataclass(frozen=True)
class JobSpec:
    """
    An order as it was given. Times are in seconds; None: no such limit.

    Raises:
        InvalidRequest: a field has a value that cannot be meant; made with its wire name.
    """

    command: str = ""
    path: str = ""
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    directory: str = ""
    request_id: str = ""
    timeout_seconds: float | None = None
    stdin: bytes = field(default=b"", repr=False)
    limits: Limits = Limits()
    labels: Mapping[str, str] = field(default_factory=dict)
    quiet_timeout_seconds: float | None = None
    separate_stderr: bool = False

    def __post_init__(self) -> None:
        _check_words(self)
        _check_env(self.env)
        _check_text("directory", self.directory)
        _check_seconds("timeout", self.timeout_seconds)
        _check_seconds("quietTimeout", self.quiet_timeout_seconds)

    @property
    def argv(self) -> tuple[str, ...]:
        """The words of command, then path, then args: what execve(2) is given."""
        path = (self.path,) if self.path else ()
        return (*_split(self.command), *path, *self.args)


@lru_cache(maxsize=256)
def _split(command: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(command))
    except ValueError as error:
        raise InvalidRequest("command", command, f"cannot be split into words: {str(error).lower()}") from error


def _check_words(spec: JobSpec) -> None:
    _check_text("command", spec.command)
    _check_text("path", spec.path)
    for index, arg in enumerate(spec.args):
        _check_text(f"args[{index}]", arg)
    words = _split(spec.command)
    if not words and not spec.path:
        raise InvalidRequest("command", spec.command, "and path are both empty: there is nothing to run")
    if words and not words[0]:
        raise InvalidRequest("command", spec.command, "begins with an empty word: there is no executable")


def _check_env(env: Mapping[str, str]) -> None:
    for name, value in env.items():
        if not name or "=" in name:
            raise InvalidRequest("env", name, "is no name of an environment variable")
        if name == MARK:
            raise InvalidRequest("env", name, "is set by the worker")
        _check_text("env", name)
        _check_text(f"env[{name}]", f"{name}={value}")


def _check_text(field: str, text: str) -> None:
    if "\0" in text:
        raise InvalidRequest(field, text, "contains a NUL byte")
    if len(text.encode("utf-8", "surrogateescape")) > LONGEST_ARGUMENT_BYTES:
        raise InvalidRequest(field, text, f"is too long: {LONGEST_ARGUMENT_BYTES} bytes at most")


def _check_seconds(field: str, seconds: float | None) -> None:
    if seconds is not None and not seconds > 0:
        raise InvalidRequest(field, seconds, "must be more than 0 seconds")
