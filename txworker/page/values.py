"""A job as the page lists it, and its record as JSON. Texts are made printable, so a browser shows every character."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from txworker.base.printable import cut, printable
from txworker.client import TLS, JobRecord, JobState
from txworker.client.values import DONE

MOST_COMMAND, MOST_LABEL, MOST_ERROR = 500, 200, 500
"""The most characters of a text in the list; the job's own page has more."""

MOST_LABELS = 20
"""The most labels of a job in the list."""

MOST_TEXT = 20_000
"""The most characters of a text on the job's own page."""

FAILURES = frozenset({JobState.FAILED, JobState.TIMED_OUT, JobState.LOST})
"""The states of jobs that ended badly without being asked to end."""

UNFINISHED = (JobState.PENDING, JobState.RUNNING, JobState.STOPPING)

Key = tuple[str, str]
"""The name of a worker and the id of a job."""


@dataclass(frozen=True)
class PageWorker:
    """A worker that the page shows. Its name stands on the page, in URLs and in the log."""

    name: str
    addr: str
    tls: TLS | None = None


@dataclass(frozen=True)
class Row:
    """A job in the list. Times are seconds since the epoch; texts are truncated."""

    worker: str
    id: str
    state: JobState
    outcome: str
    error: str
    created: float
    started: float | None
    finished: float | None
    output_bytes: int
    truncated: bool
    command: str
    labels: Mapping[str, str] = field(hash=False)

    @property
    def key(self) -> Key:
        """Identifies the job among those of all workers."""
        return self.worker, self.id

    def as_json(self) -> dict[str, Any]:
        """As it is sent to browsers."""
        return {
            "worker": self.worker,
            "id": self.id,
            "state": state_name(self.state),
            "outcome": self.outcome,
            "error": self.error,
            "created": self.created,
            "started": self.started,
            "finished": self.finished,
            "output": self.output_bytes,
            "truncated": self.truncated,
            "command": self.command,
            "labels": dict(self.labels),
        }


def row_of(worker: str, record: JobRecord) -> Row:
    """The record as a row of the list."""
    labels = list(record.labels.items())[:MOST_LABELS]
    return Row(
        worker=worker,
        id=printable(record.id),
        state=record.state,
        outcome=outcome(record),
        error=_text(record.error_text, MOST_ERROR),
        created=_seconds(record.created_at) or 0.0,
        started=_seconds(record.started_at),
        finished=_seconds(record.finished_at),
        output_bytes=record.output_bytes,
        truncated=record.output_truncated,
        command=_text(" ".join(filter(None, [record.command, record.path, *record.args])), MOST_COMMAND),
        labels={_text(name, MOST_LABEL): _text(value, MOST_LABEL) for name, value in labels},
    )


def details(record: JobRecord) -> dict[str, Any]:
    """What a record says beyond its row."""
    more = record.message
    limits = {limit.name: _plain(value) for limit, value in more.limits.ListFields()}
    return {
        "path": _text(record.path, MOST_TEXT),
        "executable": _text(record.command, MOST_TEXT),
        "args": [_text(word, MOST_TEXT) for word in record.args[:1000]],
        "allLabels": {_text(name, MOST_TEXT): _text(value, MOST_TEXT) for name, value in record.labels.items()},
        "allError": _text(record.error_text, MOST_TEXT),
        "requestId": _text(record.request_id, MOST_TEXT),
        "directory": _text(more.directory, MOST_TEXT),
        "user": _text(more.user, MOST_TEXT),
        "pid": record.pid,
        "timeout": _plain(more.timeout) if more.HasField("timeout") else None,
        "quietTimeout": _plain(more.quietTimeout) if more.HasField("quietTimeout") else None,
        "limits": limits,
        "envNames": [_text(name, MOST_TEXT) for name in list(more.envNames)[:1000]],
        "separateStderr": more.separateStderr,
        "takeovers": more.takeovers,
        "leftoversEnded": record.leftovers_ended,
        "coreDumped": record.core_dumped,
        "userCpu": record.usage.user_cpu,
        "systemCpu": record.usage.system_cpu,
        "maxRss": record.usage.max_rss_bytes,
    }


def state_name(state: JobState) -> str:
    """The name that `--state` takes."""
    return state.name.lower()


def outcome(record: JobRecord) -> str:
    """The exit code, or the name of the signal that ended the job; "" if there is neither."""
    if record.signal:
        with suppress(ValueError):
            return signal.Signals(record.signal).name
        return f"signal {record.signal}"
    return str(record.exit_code) if record.state in DONE and record.state is not JobState.LOST else ""


def _text(text: str, most: int) -> str:
    return printable(cut(text, most))


def _seconds(at: datetime | None) -> float | None:
    return None if at is None else round(at.timestamp(), 3)


def _plain(value: Any) -> float | int:
    """A number as it is; a protobuf Duration in seconds."""
    return value if isinstance(value, int) else float(value.ToNanoseconds() / 1e9)
