"""Jobs as a terminal shows them. Pure: the time and the width are given."""

from __future__ import annotations

import json
import signal
from contextlib import suppress

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from txworker.base.printable import cut, printable
from txworker.pb import worker_pb2 as pb

_UNFINISHED = (pb.JOB_STATE_PENDING, pb.JOB_STATE_RUNNING, pb.JOB_STATE_STOPPING)

_COLUMNS = {"JOB": "<36", "STATE": "<9", "EXIT": "<6", "AGE": ">6", "RAN": ">6", "OUTPUT": ">7"}
_LEFT_OUT = ("OUTPUT", "RAN", "AGE", "EXIT")
"""Where there is no room: first the first."""

MOST_CHARACTERS = 4_000
"""Of a text that may be as long as somebody likes; with --json it is whole."""

_COMMAND_WIDTH = 18
"""So many characters of the command are worth more than a column of those; 80 columns hold four of them."""


def as_json(message: Message) -> str:
    """One line, with the fields named as in the proto; numbers that are 0, too, or a program finds none."""
    return json.dumps(
        MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    )


def header(width: int | None) -> str:
    """What stands above the rows of that width."""
    return _line({name: name for name in _COLUMNS}, "COMMAND", width)


def row(job: pb.Job, now: float, width: int | None) -> str:
    """One line, cut to so many characters, of the columns for which there is room; None: all of it."""
    cells = {
        "JOB": printable(job.jobID),
        "STATE": state_name(job),
        "EXIT": outcome(job),
        "AGE": span(now - seconds(job.createdAt)),
        "RAN": _ran(job, now),
        "OUTPUT": size(job.outputBytes),
    }
    return _line(cells, command_line(job), width)


def is_done(job: pb.Job) -> bool:
    """Nothing more will happen to it; so says a state that is newer than this program, too."""
    return job.state not in _UNFINISHED


def exit_status(job: pb.Job) -> int:
    """That of a finished job as a shell gives it: its code, or 128 + the signal; never 0 when it failed."""
    if job.signal:
        return 128 + job.signal
    return job.exitCode or int(job.state != pb.JOB_STATE_SUCCEEDED)


def state_name(job: pb.Job) -> str:
    """As `--state` takes it: "running", "timed_out"; a number where it is newer than this program."""
    with suppress(ValueError):
        return pb.JobState.Name(job.state).removeprefix("JOB_STATE_").lower()
    return str(int(job.state))


def outcome(job: pb.Job) -> str:
    """The exit code, or the name of the signal that ended it; "-" when there is neither."""
    if job.signal:
        with suppress(ValueError):
            return signal.Signals(job.signal).name.removeprefix("SIG")
        return f"signal {job.signal}"
    return str(job.exitCode) if is_done(job) and job.state != pb.JOB_STATE_LOST else "-"


def command_line(job: pb.Job) -> str:
    """What it runs, on one line that is printable, so that it can be cut to a width; "…" for what is cut."""
    words = printable(cut(" ".join(filter(None, [job.command, job.path, *job.args])), MOST_CHARACTERS))
    return f"{words}…" if job.shortened else words


def span(length: float) -> str:
    """Seconds in six characters at most; a clock that is behind the worker's makes no negative ages."""
    whole = max(int(length), 0)
    minutes, hours, days = whole // 60, whole // 3600, whole // 86_400
    if minutes < 1:
        return f"{whole}s"
    if hours < 1:
        return f"{minutes}m{whole % 60:02}s"
    return f"{hours}h{minutes % 60:02}m" if days < 1 else f"{days}d{hours % 24:02}h"


def size(count: int) -> str:
    """Bytes in five characters at most; units are powers of 1024."""
    amount, unit = float(count), ""
    for bigger in "KMGTPE":
        if amount < 999.5:
            break
        amount, unit = amount / 1024, bigger
    return f"{amount:.1f}{unit}" if unit and amount < 99.95 else f"{amount:.0f}{unit}"


def seconds(at: Timestamp) -> float:
    """Since the epoch."""
    return at.seconds + at.nanos / 1e9


def _ran(job: pb.Job, now: float) -> str:
    if not job.HasField("startedAt"):
        return "-"
    end = seconds(job.finishedAt) if job.HasField("finishedAt") else now
    return span(end - seconds(job.startedAt))


def _line(cells: dict[str, str], command: str, width: int | None) -> str:
    line = " ".join(f"{cells[name]:{_COLUMNS[name]}}" for name in _shown(width)) + f"  {command}"
    return line if width is None or len(line) <= width else f"{line[: max(width - 1, 0)]}…"


def _shown(width: int | None) -> list[str]:
    """The columns that leave room for the command."""
    shown = list(_COLUMNS)
    for name in _LEFT_OUT:
        if width is None or sum(int(_COLUMNS[one][1:]) + 1 for one in shown) + 1 + _COMMAND_WIDTH <= width:
            break
        shown.remove(name)
    return shown
