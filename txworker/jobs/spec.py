"""What a client asks for: JobSpec, which checks its fields when it is created."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, field, fields
from functools import cached_property, lru_cache
from typing import Any

from txworker.jobs.errors import InvalidRequest, shown
from txworker.jobs.limits import Limits
from txworker.jobs.shortening import (
    MAX_PART_BYTES,
    Cut,
    arguments_prefix,
    label_digest,
    pairs_prefix,
    text_digest,
    text_prefix,
)

JOB_ID_VARIABLE = "TXWORKER_JOB_ID"
"""The environment variable that tags the processes of a job with its id."""

MAX_ARGUMENT_BYTES = 128 * 1024 - 1
"""The longest argument or NAME=value, without its NUL: Linux's MAX_ARG_STRLEN, 32 pages (execve(2))."""

MAX_NAME_BYTES = 4095
"""The longest path in a system call, without its NUL (PATH_MAX)."""

LEFTOVERS = ("", "end", "keep")
"""What happens to processes that a job leaves behind; empty: the worker's default."""

MIN_LEASE_SECONDS = 1
"""A lease is renewed at a third of it; a shorter one would run out over a short disturbance of the network."""

DEFAULT_TERMINAL_SIZE = 24, 80
"""Rows and columns."""

MAX_TERMINAL_SIDE = 65535
"""Rows or columns: the kernel has 16 bits for each (ioctl_tty(2))."""

_MAX_CACHED_COMMAND = 1000
"""Characters of a command that is cached as words."""

MAX_LABELS, MAX_LABEL_BYTES = 100, 4096
MAX_REQUEST_ID_BYTES = 4096
"""A job's record must fit into one message; clients accept up to 4 MiB."""

WIRE_NAMES = {
    "request_id": "requestID",
    "timeout_seconds": "timeout",
    "stdin_sha256": "stdin",
    "quiet_timeout_seconds": "quietTimeout",
    "separate_stderr": "separateStderr",
    "lease_seconds": "lease",
    "tty_rows": "ttyRows",
    "tty_columns": "ttyColumns",
}
"""The names in StartJobReq of fields that have another name here."""

_IN_RECORD = ("command", "path", "args", "env", "labels")
"""Fields of which a job's record on the wire shows something: of env the names."""

_SECRET = ("env", "stdin_sha256")
"""Fields with values that must not be in errors and logs."""


@dataclass(frozen=True)
class JobSpec:
    """
    What to run and how, as the client gave it.

    command: words as a POSIX shell splits them; the process is executed without a shell.
    path: one argument after the words of command; empty: none.
    args: exact arguments after path.
    env: variables added to the environment of jobs.
    directory: the working directory; empty: the worker's default.
    request_id: a second request with the same id returns the job of the first; empty: none.
    timeout_seconds: how long the job may run; None: no limit.
    stdin: the bytes of standard input. Dropped once the process runs.
    limits: 0 in a field of it means the worker's default.
    labels: names and values to find jobs by.
    quiet_timeout_seconds: how long the job may run without printing anything; None: no limit.
    separate_stderr: stderr goes to a file of its own.
    stdin_sha256: the hexadecimal digest of stdin, kept in its place; empty: no stdin.
    leftovers: one of LEFTOVERS.
    lease_seconds: the job is stopped when it was not renewed for so long; None: no lease.
    tty: stdin, stdout and stderr are one pseudo-terminal.
    tty_rows, tty_columns: its size; 0: that of DEFAULT_TERMINAL_SIZE.
    feed: stdin stays open after those bytes, for more of them (FeedJob).
    trace: variables that tell the process to which trace it belongs. Dropped when the worker ends.
    cut: what is known of the parts that shortened() cut off; None: this is the whole spec.

    Raises:
        InvalidRequest: a field has an impossible value; the error has the field's name on the wire.
    """

    command: str = ""
    path: str = ""
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    directory: str = ""
    request_id: str = ""
    timeout_seconds: float | None = None
    stdin: bytes = field(default=b"", repr=False, compare=False)
    limits: Limits = Limits()
    labels: Mapping[str, str] = field(default_factory=dict)
    quiet_timeout_seconds: float | None = None
    separate_stderr: bool = False
    stdin_sha256: str = ""
    leftovers: str = ""
    lease_seconds: float | None = None
    tty: bool = False
    tty_rows: int = 0
    tty_columns: int = 0
    feed: bool = False
    trace: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    cut: Cut | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.stdin:
            object.__setattr__(self, "stdin_sha256", hashlib.sha256(self.stdin).hexdigest())
        _check_words(self)
        _check_env(self.env)
        _check_labels(self.labels)
        if len(self.request_id.encode()) > MAX_REQUEST_ID_BYTES:
            raise InvalidRequest("requestID", self.request_id, f"is too long: {MAX_REQUEST_ID_BYTES} bytes at most")
        _check_text("directory", self.directory, max_bytes=MAX_NAME_BYTES)
        _check_seconds("timeout", self.timeout_seconds)
        _check_seconds("quietTimeout", self.quiet_timeout_seconds)
        if self.leftovers not in LEFTOVERS:
            raise InvalidRequest("leftovers", self.leftovers, "must be 'end' or 'keep'")
        if self.lease_seconds is not None and not self.lease_seconds >= MIN_LEASE_SECONDS:
            raise InvalidRequest("lease", self.lease_seconds, f"must be {MIN_LEASE_SECONDS} second or more")
        _check_terminal(self)

    @property
    def argv(self) -> tuple[str, ...]:
        """The argument vector for execve(2): the words of command, then path, then args. Only of a whole spec."""
        assert self.cut is None, "a command that was cut may not be split into words any more"
        path = (self.path,) if self.path else ()
        return (*self._words, *path, *self.args)

    @property
    def shown_argv(self) -> tuple[str, ...]:
        """As argv, for people; of a shortened spec what is left of it, with the command as one word."""
        return self.argv if self.cut is None else tuple(filter(None, (self.command, self.path, *self.args)))

    @cached_property
    def _words(self) -> tuple[str, ...]:
        """Kept from the check on, because shlex needs a quarter of a second for a word of 128 KiB."""
        return _split(self.command)

    def with_limits(self, limits: Limits) -> JobSpec:
        """The same with these limits, which are not checked."""
        spec = copy(self)
        object.__setattr__(spec, "limits", limits)
        return spec

    @property
    def terminal_size(self) -> tuple[int, int] | None:
        """Rows and columns of the pseudo-terminal; None: there is none."""
        rows, columns = DEFAULT_TERMINAL_SIZE
        return (self.tty_rows or rows, self.tty_columns or columns) if self.tty else None

    @classmethod
    def unchecked(cls, **fields: Any) -> JobSpec:
        """A spec with these fields and defaults for the others, without the checks: a checked spec had these values."""
        spec = object.__new__(cls)
        spec.__dict__.update(_DEFAULTS.__dict__)
        spec.__dict__.update(fields)
        spec.__dict__.pop("_words", None)
        return spec

    def shortened(self) -> JobSpec:
        """
        The spec that is kept in memory once the process runs: without stdin, and with the beginning of each long part.

        The spec itself when it has no stdin and no long part.
        """
        if self.cut is not None or (self.is_short and not self.stdin):
            return self
        parts = {
            "command": text_prefix(self.command),
            "path": text_prefix(self.path),
            "args": arguments_prefix(self.args),
            "env": self.env if pairs_prefix(self.env) is self.env else {},
            "directory": text_prefix(self.directory),
            "labels": pairs_prefix(self.labels),
        }
        cut = {name: part for name, part in parts.items() if part is not getattr(self, name)}
        if not (cut or self.stdin):
            return self
        return self.unchecked(**{**self.__dict__, **cut, "stdin": b"", "cut": self._cut(cut) if cut else None})

    @property
    def is_short(self) -> bool:
        """All texts together have MAX_PART_BYTES at most, whatever their characters. True for most specs."""
        characters = len(self.command) + len(self.path) + len(self.directory) + sum(map(len, self.args))
        for pairs in (self.env, self.labels):
            if pairs:
                characters += sum(map(len, pairs)) + sum(map(len, pairs.values()))
        return 4 * characters + 8 * (len(self.args) + len(self.env) + len(self.labels)) <= MAX_PART_BYTES

    def has_label(self, name: str, value: str) -> bool:
        """Whether the job has that label; also true for a label that shortened() cut off."""
        if self.cut is not None and self.cut.labels:
            return label_digest(name, value) in self.cut.labels
        return self.labels.get(name) == value

    def has_path(self, path: str) -> bool:
        """Whether that is the whole path; also known after shortened() cut it."""
        if self.cut is not None and self.cut.path:
            return text_digest(path) == self.cut.path
        return self.path == path

    def difference(self, other: JobSpec) -> str:
        """The first field in which `other` differs: its wire name, and both values unless secret. Empty: equal."""
        for name in (one.name for one in fields(self) if one.compare):
            before, now = getattr(self, name), getattr(other, name)
            if before != now:
                values = "" if name in _SECRET else f" ({shown(before)}, now {shown(now)})"
                return f"{WIRE_NAMES.get(name, name)}{values}"
        return ""

    def _cut(self, parts: Mapping[str, object]) -> Cut:
        return Cut(
            text_digest(self.path) if "path" in parts else "",
            " ".join(label_digest(*label) for label in self.labels.items()) if "labels" in parts else "",
            not parts.keys().isdisjoint(_IN_RECORD),
        )


def _split(command: str) -> tuple[str, ...]:
    return _words(command) if len(command) > _MAX_CACHED_COMMAND else _cached_words(command)


@lru_cache(maxsize=256)
def _cached_words(command: str) -> tuple[str, ...]:
    return _words(command)


def _words(command: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(command))
    except ValueError as error:
        raise InvalidRequest("command", command, f"cannot be split into words: {str(error).lower()}") from error


def _check_words(spec: JobSpec) -> None:
    _check_text("command", spec.command)
    _check_text("path", spec.path)
    for index, arg in enumerate(spec.args):
        _check_text(f"args[{index}]", arg)
    words = spec._words
    if not words and not spec.path:
        raise InvalidRequest("command", spec.command, "and path are both empty: there is nothing to run")
    if words and not words[0]:
        raise InvalidRequest("command", spec.command, "begins with an empty word: there is no executable")


def _check_env(env: Mapping[str, str]) -> None:
    for name, value in env.items():
        if not name or "=" in name:
            raise InvalidRequest("env", name, "is not a valid variable name")
        if name == JOB_ID_VARIABLE:
            raise InvalidRequest("env", name, "is set by the worker")
        _check_text("env", name)
        _check_text(f"env[{name if len(name) <= 200 else shown(name)}]", f"{name}={value}", f"{name}=…")


def _check_labels(labels: Mapping[str, str]) -> None:
    if len(labels) > MAX_LABELS:
        raise InvalidRequest("labels", len(labels), f"are too many: {MAX_LABELS} at most")
    for name, value in labels.items():
        if len(name.encode()) + len(value.encode()) > MAX_LABEL_BYTES:
            raise InvalidRequest("labels", f"{name}={value}", f"is too long: {MAX_LABEL_BYTES} bytes at most")


def _check_text(field: str, text: str, shown_as: str = "", max_bytes: int = MAX_ARGUMENT_BYTES) -> None:
    """shown_as: what an error shows in place of a secret or very long text; empty: the text."""
    if "\0" in text:
        raise InvalidRequest(field, shown_as or text, "contains a NUL byte")
    if len(text.encode("utf-8", "surrogateescape")) > max_bytes:
        raise InvalidRequest(field, shown_as or text, f"is too long: {max_bytes} bytes at most")


def check_terminal_side(field: str, value: int) -> None:
    """
    Rows or columns of a terminal.

    Raises:
        InvalidRequest: no terminal has that many, or it is 0. `field` is the name in the error.
    """
    if not 1 <= value <= MAX_TERMINAL_SIDE:
        raise InvalidRequest(field, value, f"is not the size of a terminal: 1 to {MAX_TERMINAL_SIDE}")


def _check_terminal(spec: JobSpec) -> None:
    for name, side in (("ttyRows", spec.tty_rows), ("ttyColumns", spec.tty_columns)):
        if side and not spec.tty:
            raise InvalidRequest(name, side, "is the size of a terminal, and tty is false")
        if side:  # 0 stands for the default
            check_terminal_side(name, side)
    if spec.tty and spec.separate_stderr:
        raise InvalidRequest("separateStderr", True, "is not possible with tty: a terminal has one output")
    if spec.tty and spec.stdin:
        raise InvalidRequest("stdin", f"{len(spec.stdin)} bytes", "are not possible with tty: use FeedJob")


def _check_seconds(field: str, seconds: float | None) -> None:
    if seconds is not None and not seconds > 0:
        raise InvalidRequest(field, seconds, "must be more than 0 seconds")


_DEFAULTS = JobSpec("-")
