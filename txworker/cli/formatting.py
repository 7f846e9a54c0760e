"""Formats jobs for a terminal. Pure functions: time and width are parameters."""

from __future__ import annotations

import json
import signal
from contextlib import suppress
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from txworker.base.printable import cut, printable
from txworker.pb import worker_pb2 as pb

_UNFINISHED = (pb.JOB_STATE_PENDING, pb.JOB_STATE_RUNNING, pb.JOB_STATE_STOPPING)

_Field = Any
"""protobuf's descriptor of a field, of which there are two classes."""

SHORT_ID = 8
"""Characters of an id that stand for it on a terminal."""

_COLUMNS = {"JOB": "<36", "STATE": "<9", "EXIT": "<6", "AGE": ">6", "RAN": ">6", "OUTPUT": ">7"}
_DROPPED_FIRST = ("OUTPUT", "RAN", "AGE", "EXIT")
"""The columns that are left out on a narrow terminal, in this order."""

MOST_CHARACTERS = 4_000
"""Longer texts are cut, but not with --json."""

_MIN_COMMAND_WIDTH = 18
"""Columns are left out until the command has so many characters; then four columns fit into 80."""


def as_json(message: Message) -> str:
    """
    One line of JSON, with the proto's field names; fields with default values are included.

    Unlike protobuf's own JSON: 64-bit numbers are numbers, durations are numbers of seconds, and times are whole
    seconds, as `jq fromdateiso8601` takes them.
    """
    return json.dumps(_plain(message))


def _plain(message: Message) -> Any:
    """A message, or a value in one, as the json module takes it."""
    if isinstance(message, Timestamp):
        return Timestamp(seconds=message.seconds).ToJsonString()
    if isinstance(message, Duration):
        return message.ToNanoseconds() / 1e9
    fields = [field for field in message.DESCRIPTOR.fields if not field.has_presence or message.HasField(field.name)]
    return {field.name: _field(field, getattr(message, field.name)) for field in fields}


def _field(field: _Field, value: Any) -> Any:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return dict(value)  # of strings, wherever we have one
    if field.is_repeated:
        return [_value(field, one) for one in value]
    return _value(field, value)


def _value(field: _Field, value: Any) -> Any:
    if field.message_type is not None:
        return _plain(value)
    if field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        return known.name if known is not None else value
    return value


def header(width: int | None, short: bool = False) -> str:
    """The header line for such rows."""
    return _line({name: name for name in _COLUMNS}, "COMMAND", width, short)


def row(job: pb.Job, now: float, width: int | None, short: bool = False) -> str:
    """The job's line, with the columns that fit into `width` characters; None: all, and uncut. short: so is the id."""
    cells = {
        "JOB": printable(job.jobID[:SHORT_ID] if short else job.jobID),
        "STATE": state_name(job),
        "EXIT": outcome(job),
        "AGE": span(now - seconds(job.createdAt)),
        "RAN": _ran(job, now),
        "OUTPUT": size(job.outputBytes),
    }
    return _line(cells, command_line(job), width, short)


def is_done(job: pb.Job) -> bool:
    """The job is in a final state; a state that this program does not know counts as final."""
    return job.state not in _UNFINISHED


def exit_status(job: pb.Job) -> int:
    """The exit status of a finished job as in a shell: its exit code, or 128 + signal; not 0 unless it succeeded."""
    if job.signal:
        return 128 + job.signal
    return job.exitCode or int(job.state != pb.JOB_STATE_SUCCEEDED)


def state_name(job: pb.Job) -> str:
    """The state as `--state` takes it, such as "timed_out"; a number if this program does not know it."""
    with suppress(ValueError):
        return pb.JobState.Name(job.state).removeprefix("JOB_STATE_").lower()
    return str(int(job.state))


def outcome(job: pb.Job) -> str:
    """The exit code, or the name of the signal that ended the job; "-" if there is neither."""
    if job.signal:
        with suppress(ValueError):
            return signal.Signals(job.signal).name.removeprefix("SIG")
        return f"signal {job.signal}"
    return str(job.exitCode) if is_done(job) and job.state != pb.JOB_STATE_LOST else "-"


def command_line(job: pb.Job, most: int = MOST_CHARACTERS) -> str:
    """Command, path and arguments on one printable line, cut there; "…" at the end of a shortened record."""
    words = printable(cut(" ".join(filter(None, [job.command, job.path, *job.args])), most))
    return f"{words}…" if job.shortened else words


def span(length: float) -> str:
    """A duration in at most six characters. Negative ones, from a clock behind the worker's, are 0s."""
    whole = max(int(length), 0)
    minutes, hours, days = whole // 60, whole // 3600, whole // 86_400
    if minutes < 1:
        return f"{whole}s"
    if hours < 1:
        return f"{minutes}m{whole % 60:02}s"
    return f"{hours}h{minutes % 60:02}m" if days < 1 else f"{days}d{hours % 24:02}h"


def size(count: int) -> str:
    """A number of bytes in at most five characters; units are powers of 1024."""
    amount, unit = float(count), ""
    for bigger in "KMGTPE":
        if amount < 999.5:
            break
        amount, unit = amount / 1024, bigger
    return f"{amount:.1f}{unit}" if unit and amount < 99.95 else f"{amount:.0f}{unit}"


def seconds(at: Timestamp) -> float:
    """Seconds since the epoch."""
    return at.seconds + at.nanos / 1e9


def _ran(job: pb.Job, now: float) -> str:
    if not job.HasField("startedAt"):
        return "-"
    end = seconds(job.finishedAt) if job.HasField("finishedAt") else now
    return span(end - seconds(job.startedAt))


def _line(cells: dict[str, str], command: str, width: int | None, short: bool) -> str:
    columns = {**_COLUMNS, "JOB": f"<{SHORT_ID}"} if short else _COLUMNS
    line = " ".join(f"{cells[name]:{columns[name]}}" for name in _shown(columns, width)) + f"  {command}"
    return line if width is None or len(line) <= width else f"{line[: max(width - 1, 0)]}…"


def _shown(columns: dict[str, str], width: int | None) -> list[str]:
    """The columns that leave enough room for the command."""
    shown = list(columns)
    for name in _DROPPED_FIRST:
        if width is None or sum(int(columns[column][1:]) + 1 for column in shown) + 1 + _MIN_COMMAND_WIDTH <= width:
            break
        shown.remove(name)
    return shown
