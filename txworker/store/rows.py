"""A job and its row, side by side. Pure; any thread."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

from txworker.jobs import Cut, EndReason, Job, JobSpec, JobState, Limits, Usage

COLUMNS = (
    "number, id, revision, state, spec, created_at, started_at, finished_at, pid, started_ticks, end_reason, "
    "exit_code, signal, user_cpu_seconds, system_cpu_seconds, max_rss_bytes, output_bytes, output_truncated, "
    "leftovers_ended, lost_text, ended_elapsed, core_dumped, end_problem"
)
"""Of a SELECT whose rows are for job_from_row."""

INSERT_ORDER = "INSERT INTO orders (number, spec) VALUES (?, ?)"
"""The whole order of a job, of which its own row has but the brief one."""

INSERT = (
    "INSERT INTO jobs (number, id, revision, state, path, request_id, spec, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (request_id) WHERE request_id IS NOT NULL DO NOTHING"
)
UPDATE = (
    "UPDATE jobs SET revision = ?, state = ?, started_at = ?, finished_at = ?, pid = ?, started_ticks = ?,"
    " end_reason = ?, exit_code = ?, signal = ?, user_cpu_seconds = ?, system_cpu_seconds = ?, max_rss_bytes = ?,"
    " output_bytes = ?, output_truncated = ?, leftovers_ended = ?, lost_text = ?, ended_elapsed = ?,"
    " core_dumped = ?, end_problem = ? WHERE number = ?"
)

_to_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_UNSAID = JobSpec("-")
_OTHERWISE = ("stdin", "limits", "cut")


def new_row(job: Job) -> tuple[Any, ...]:
    """The parameters of INSERT: all that is fixed about a job, but for the long parts of its order; where it stands."""
    spec = job.spec.shortened()
    return (
        job.number,
        job.id,
        job.revision,
        job.state.value,
        job.spec.path,
        spec.request_id or None,
        spec_to_text(spec),
        job.created_at,
    )


def changed_row(job: Job) -> tuple[Any, ...]:
    """The parameters of UPDATE: all that can change."""
    return (
        job.revision,
        job.state.value,
        job.started_at,
        job.finished_at,
        job.pid,
        job.started_ticks,
        None if job.end_reason is None else job.end_reason.value,
        job.exit_code,
        job.signal,
        job.usage.user_cpu_seconds,
        job.usage.system_cpu_seconds,
        job.usage.max_rss_bytes,
        job.output_bytes,
        job.output_truncated,
        job.leftovers_ended,
        job.lost_text,
        job.ended_elapsed,
        job.core_dumped,
        job.end_problem,
        job.number,
    )


def labels_of(job: Job) -> list[tuple[str, str, int]]:
    """The rows of a job's labels."""
    return [(name, value, job.number) for name, value in job.spec.labels.items()]


def job_from_row(row: tuple[Any, ...]) -> Job:
    """The job of a row of COLUMNS."""
    number, job_id, revision, state, spec, created, started, finished, pid, ticks, reason, code, signal, *rest = row
    user, system, rss, output_bytes, truncated, leftovers, lost_text, ended_elapsed, core_dumped, end_problem = rest
    return Job(
        id=job_id,
        spec=spec_from_text(spec),
        created_at=created,
        number=number,
        state=JobState(state),
        revision=revision,
        started_at=started,
        finished_at=finished,
        pid=pid,
        started_ticks=ticks,
        end_reason=None if reason is None else EndReason(reason),
        exit_code=code,
        signal=signal,
        usage=Usage(user, system, rss),
        output_bytes=output_bytes,
        output_truncated=bool(truncated),
        leftovers_ended=leftovers,
        lost_text=lost_text,
        ended_elapsed=ended_elapsed,
        core_dumped=bool(core_dumped),
        end_problem=end_problem,
    )


def spec_to_text(spec: JobSpec) -> str:
    """JSON of what an order says; what it leaves unsaid is left out, and of stdin only the digest is kept."""
    said: dict[str, Any] = {}
    for name, unsaid in _SPEC_FIELDS:
        value = getattr(spec, name)
        if value != unsaid:
            said[name] = value
    if spec.limits != _UNSAID.limits:
        said["limits"] = {field.name: getattr(spec.limits, field.name) for field in fields(Limits)}
    if spec.cut is not None:
        said["cut"] = vars(spec.cut)
    return _to_json(said)


def spec_from_text(text: str) -> JobSpec:
    """The order, but for its stdin. It is not checked anew: whoever wrote it down had it checked."""
    said = json.loads(text)
    said.setdefault("command", _UNSAID.command)
    if "args" in said:
        said["args"] = tuple(said["args"])
    if "limits" in said:
        said["limits"] = Limits(**said["limits"])
    if "cut" in said:
        said["cut"] = Cut(**said["cut"])
    return JobSpec.unchecked(**said)


def shortened_text(text: str) -> str:
    """What is left of an order's text when it is brief; what cannot be read stays as it is."""
    try:
        return spec_to_text(spec_from_text(text).shortened())
    except (ValueError, TypeError, AttributeError):
        return text


_SPEC_FIELDS = tuple(
    (field.name, getattr(_UNSAID, field.name)) for field in fields(JobSpec) if field.name not in _OTHERWISE
)
