"""Formats jobs for a terminal. Pure functions: time and width are parameters."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from txworker.base.printable import cut, printable
from txworker.cli.table import Column, heading_line, line
from txworker.pb import worker_pb2 as pb

_UNFINISHED = (pb.JOB_STATE_PENDING, pb.JOB_STATE_RUNNING, pb.JOB_STATE_STOPPING)

_Field = Any
"""A field's descriptor; protobuf has two classes of them."""

Labels = Mapping[str, int]
"""The labels that have a column, and the width of each column."""

NO_LABELS: Labels = MappingProxyType({})

SHORT_ID = 8
"""How many characters of an id are shown on a terminal."""

LONG_ID = 36

_COLUMNS = (
    Column("STATE", 9),
    Column("EXIT", 6, dropped=1),
    Column("AGE", 6, ">", dropped=2),
    Column("RAN", 6, ">", dropped=3),
    Column("OUTPUT", 7, ">", dropped=4),
)
"""The columns after the job's id."""

MOST_CHARACTERS = 4_000
"""Longer texts are truncated, but not with --json."""


def as_json(message: Message) -> str:
    """
    One line of JSON, with the proto's field names; fields with default values are included.

    Unlike protobuf's own JSON: 64-bit numbers are numbers, durations are numbers of seconds, and times are whole
    seconds, as `jq fromdateiso8601` takes them.
    """
    return json.dumps(plain(message))


def plain(message: Message) -> Any:
    """A message, or a value in one, as an object for the json module."""
    if isinstance(message, Timestamp):
        return Timestamp(seconds=message.seconds).ToJsonString()
    if isinstance(message, Duration):
        return message.ToNanoseconds() / 1e9
    fields = [field for field in message.DESCRIPTOR.fields if not field.has_presence or message.HasField(field.name)]
    return {field.name: _field(field, getattr(message, field.name)) for field in fields}


def _field(field: _Field, value: Any) -> Any:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return dict(value)  # ours are all maps of strings
    if field.is_repeated:
        return [_value(field, one) for one in value]
    return _value(field, value)


def _value(field: _Field, value: Any) -> Any:
    if field.message_type is not None:
        return plain(value)
    if field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        return known.name if known is not None else value
    return value


def header(width: int | None, short: bool = False, labels: Labels = NO_LABELS) -> str:
    """The header line for such rows."""
    return heading_line(_columns(short, labels), "COMMAND", width)


def row(job: pb.Job, now: float, width: int | None, short: bool = False, labels: Labels = NO_LABELS) -> str:
    """
    The job's line, with the columns that fit into `width` characters; None: all, and uncut. short: so is the id.
    labels: those that have a column, with its width.
    """
    cells = [
        printable(job.jobID[:SHORT_ID] if short else job.jobID),
        state_name(job),
        outcome(job),
        span(now - seconds(job.createdAt)),
        _ran(job, now),
        size(job.outputBytes),
        *(fitted(label_text(job, name), None if width is None else most) for name, most in labels.items()),
    ]
    return line(_columns(short, labels), cells, command_line(job), width)


def label_text(job: pb.Job, name: str) -> str:
    """The value of a label in printable characters; "-" if there is none."""
    return printable(job.labels[name]) if name in job.labels else "-"


def label_widths(names: Iterable[str], jobs: Sequence[pb.Job], most: int | None) -> dict[str, int]:
    """
    How wide the columns of these labels are, so that all values of these jobs fit.

    most: the most characters of a column on a terminal; longer values are truncated. None: no limit.
    """
    widths = {name: [len(name), *(len(label_text(job, name)) for job in jobs)] for name in names}
    return {name: max(found) if most is None else min(max(found), most) for name, found in widths.items()}


def state_begins(short: bool = False) -> int:
    """The position of the state's name in such a row."""
    return (SHORT_ID if short else LONG_ID) + 1


def is_done(job: pb.Job) -> bool:
    """Whether the job is in a final state; a state that this program does not know counts as final."""
    return job.state not in _UNFINISHED


def exit_status(job: pb.Job) -> int:
    """The exit status of a finished job as in a shell: its exit code, or 128 + signal; not 0 unless it succeeded."""
    if job.signal:
        return 128 + job.signal
    return job.exitCode or int(job.state != pb.JOB_STATE_SUCCEEDED)


def state_name(job: pb.Job) -> str:
    """The name that `--state` takes, such as "timed_out"; a number if this program does not know the state."""
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
    """Command, path and arguments on one printable line, truncated; "…" at the end of a shortened record."""
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


def _columns(short: bool, labels: Labels) -> list[Column]:
    shown = [Column(fitted(printable(name.upper()), width), width) for name, width in labels.items()]
    return [Column("JOB", SHORT_ID if short else LONG_ID), *_COLUMNS, *shown]


def fitted(text: str, width: int | None) -> str:
    """The text, truncated to the width; None: all of it."""
    return text if width is None or len(text) <= width else f"{text[: width - 1]}…"
