"""The request that starts a job, made of keywords. What cannot be sent is told by its keyword."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypedDict

from txworker.client.parameters import NAMES, SECONDS, TRUE_OR_FALSE, parameter
from txworker.client.values import Limits, to_duration
from txworker.pb import worker_pb2 as pb

MOST_BYTES = 4 * 2**20
"""The largest request that a worker accepts."""


class StartDetails(TypedDict, total=False):
    """The optional arguments of a start, by keyword. Times are in seconds."""

    args: Sequence[str]
    """The arguments after `path`, each exactly as it is: no shell and no splitting."""
    env: Mapping[str, str]
    """Added to the environment that the worker gives to jobs."""
    directory: str
    """Where the job runs; by default what the worker is configured for."""
    request_id: str
    """A start with an id that was used before returns that start's job. By default each start has an id of its own."""
    timeout: float
    """The job is stopped after this time."""
    quiet_timeout: float
    """The job is stopped when it has printed nothing for this time."""
    stdin: bytes
    """What the job reads from its standard input; at most 4 MiB together with the rest of the request."""
    feed: bool
    """The standard input stays open behind `stdin`, for the bytes of feed()."""
    limits: Limits
    """What the job and its children may use."""
    labels: Mapping[str, str]
    """Names and values by which jobs can be selected."""
    separate_stderr: bool
    """Keep stderr apart: follow() shows stdout, and follow(stderr=True) stderr."""
    leftovers: str
    """"end" or "keep": what happens to processes that the job leaves behind."""
    tty: tuple[int, int]
    """Rows and columns of a pseudo-terminal, which is the job's stdin, stdout and stderr; 0: 24 rows, 80 columns."""
    lease: float
    """The job is stopped when its lease was not renewed for this time; at least one second."""


class RequestTooLarge(ValueError):
    """The request has `size` bytes, more than a worker accepts."""

    def __init__(self, size: int) -> None:
        super().__init__(
            f"a start of {size} bytes cannot be sent: {MOST_BYTES} at most, stdin included; feed() has no limit"
        )
        self.size = size


def start_request(command: str, path: str, details: StartDetails) -> pb.StartJobReq:
    """
    A start, with a request id of its own unless one is given: sent again, it starts nothing a second time.

    Raises:
        TypeError: there is no such keyword, or a value is of another type.
        ValueError: a text cannot be sent because it is not UTF-8 (UnicodeEncodeError), a time is not finite, a number
            is too large, or the whole request (RequestTooLarge).
    """
    if unknown := set(details) - set(StartDetails.__annotations__):
        raise TypeError(f"a start has no {sorted(unknown)[0]!r}; it has {', '.join(StartDetails.__annotations__)}")
    request = pb.StartJobReq()
    for name, value in {"command": command, "path": path, **details}.items():
        if value is not None or name == "command":
            _put(request, name, value)
    request.requestID = request.requestID or str(uuid.uuid4())
    if request.ByteSize() > MOST_BYTES:
        raise RequestTooLarge(request.ByteSize())
    return request


def _put(request: pb.StartJobReq, name: str, value: Any) -> None:
    kind, put = _KEYWORDS[name]
    with parameter(name, kind, value, name in _SECRET):
        put(request, value)


def _put_args(request: pb.StartJobReq, args: Sequence[str]) -> None:
    if isinstance(args, str):
        raise TypeError
    request.args.extend(args)


def _put_size(request: pb.StartJobReq, size: tuple[int, int]) -> None:
    if len(size) != 2:
        raise TypeError
    request.tty = True
    request.ttyRows, request.ttyColumns = size


def _put_names(field: str, request: pb.StartJobReq, values: Mapping[str, str]) -> None:
    getattr(request, field).update(values.items())


def _put_plain(field: str, request: pb.StartJobReq, value: object) -> None:
    setattr(request, field, value)


def _put_seconds(field: str, request: pb.StartJobReq, seconds: float) -> None:
    getattr(request, field).CopyFrom(to_duration(seconds))


_SECRET = ("env", "stdin")
"""An error names these keywords without the value that was given."""

_KEYWORDS: dict[str, tuple[str, Callable[[pb.StartJobReq, Any], object]]] = {
    "command": ("a string", partial(_put_plain, "command")),
    "path": ("a string", partial(_put_plain, "path")),
    "args": ("a list of strings", _put_args),
    "env": (NAMES, partial(_put_names, "env")),
    "directory": ("a string", partial(_put_plain, "directory")),
    "request_id": ("a string", partial(_put_plain, "requestID")),
    "timeout": (SECONDS, partial(_put_seconds, "timeout")),
    "quiet_timeout": (SECONDS, partial(_put_seconds, "quietTimeout")),
    "stdin": ("bytes", lambda request, data: _put_plain("stdin", request, bytes(memoryview(data)))),
    "feed": (TRUE_OR_FALSE, partial(_put_plain, "feed")),
    "limits": ("Limits", lambda request, limits: request.limits.CopyFrom(limits.to_pb())),
    "labels": (NAMES, partial(_put_names, "labels")),
    "separate_stderr": (TRUE_OR_FALSE, partial(_put_plain, "separateStderr")),
    "leftovers": ("a string", partial(_put_plain, "leftovers")),
    "tty": ("(rows, columns)", _put_size),
    "lease": (SECONDS, partial(_put_seconds, "lease")),
}
"""What each keyword holds, in words, and what puts it into the request."""
