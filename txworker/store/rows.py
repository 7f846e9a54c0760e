"""
Conversion between a Job and its row in the table jobs, and the SQL statements with the columns. Pure; any thread.

To store a further field of Job: a step in schema.py that adds a column of the same name. The statements and both
conversions follow from the fields of Job; only a field that is neither a number, a text nor a truth value needs a
Column here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from functools import lru_cache
from operator import attrgetter
from types import NoneType
from typing import Any, NamedTuple, get_args, get_type_hints

from txworker.jobs import Cut, EndReason, Job, JobSpec, JobState, Limits, Settings, Usage

_to_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_DEFAULTS = JobSpec("-")
_CONVERTED_FIELDS = ("stdin", "limits", "trace", "cut")


def spec_to_text(spec: JobSpec) -> str:
    """JSON of a spec. Fields with their default value are left out, and of stdin only the digest is kept."""
    all_values = vars(spec)
    values = {name: all_values[name] for name, default in _SPEC_FIELDS if all_values[name] != default}
    if spec.limits is not _DEFAULTS.limits and spec.limits != _DEFAULTS.limits:  # the first is fast, and usual
        values["limits"] = {field.name: getattr(spec.limits, field.name) for field in fields(Limits)}
    if spec.cut is not None:
        values["cut"] = vars(spec.cut)
    return _to_json(values)


def spec_from_text(text: str) -> JobSpec:
    """The spec, without its stdin. It is not checked again, because only checked specs are written."""
    values = json.loads(text)
    values.setdefault("command", _DEFAULTS.command)
    if "args" in values:
        values["args"] = tuple(values["args"])
    if "limits" in values:
        values["limits"] = Limits(**values["limits"])
    if "cut" in values:
        values["cut"] = Cut(**values["cut"])
    return JobSpec.unchecked(**values)


def shortened_text(text: str) -> str:
    """The text of the shortened spec; a text that cannot be read is returned unchanged."""
    try:
        return spec_to_text(spec_from_text(text).shortened())
    except (ValueError, TypeError, AttributeError):
        return text


_SPEC_FIELDS = tuple(
    (field.name, getattr(_DEFAULTS, field.name)) for field in fields(JobSpec) if field.name not in _CONVERTED_FIELDS
)


@lru_cache(maxsize=256)  # they are the same for most jobs of a worker
def settings_to_text(settings: Settings) -> str:
    """JSON of settings, without the fields that have their default value; empty when all have."""
    values: dict[str, Any] = {name: value for name, value in vars(settings).items() if value}
    if settings.limits == Limits():
        del values["limits"]
    else:
        values["limits"] = {name: value for name, value in vars(settings.limits).items() if value}
    return _to_json(values) if values else ""


@lru_cache(maxsize=256)
def settings_from_text(text: str) -> Settings:
    """The settings."""
    values = json.loads(text) if text else {}
    if "limits" in values:
        values["limits"] = Limits(**values["limits"])
    return Settings(**values)


class Column(NamedTuple):
    """
    One column of the table jobs.

    name: in SQL, and of the field of Job that the value is read into.
    source: the attribute of Job that is written, dotted; empty: the field `name`.
    to_sql, from_sql: convert the value; None: it is stored as it is.
    """

    name: str
    source: str = ""
    to_sql: Callable[[Any], Any] | None = None
    from_sql: Callable[[Any], Any] | None = None


_STATES = {state.value: state for state in JobState}
_END_REASONS: dict[str | None, EndReason | None] = {None: None, **{reason.value: reason for reason in EndReason}}
_USAGE = tuple(field.name for field in fields(Usage))

_NUMBER = Column("number")

_FIXED = (
    _NUMBER,
    Column("id"),
    Column("spec", to_sql=lambda spec: spec_to_text(spec.shortened()), from_sql=spec_from_text),
    Column("created_at"),
    Column("settings", to_sql=settings_to_text, from_sql=settings_from_text),
)
"""Written when the job is added, and never changed."""

_INDEXED = (
    Column("path", "spec.path"),
    Column("request_id", "spec.request_id", to_sql=lambda request_id: request_id or None),
)
"""Written with those. Copies of parts of the spec, for WHERE clauses; never read."""

_EVERY_REVISION = (
    Column("revision"),
    Column("state", "state.value", from_sql=_STATES.__getitem__),
)
"""Written when the job is added and with every change."""

_CONVERTED = (Column("end_reason", to_sql=lambda reason: reason and reason.value, from_sql=_END_REASONS.__getitem__),)
"""The columns that are written with every change and have values of types that SQLite lacks."""


def plain_column(name: str, hint: Any) -> Column:
    """
    The column of a field that is stored as it is.

    Raises:
        TypeError: a value of that type cannot be.
    """
    if hint is bool:
        return Column(name, from_sql=bool)
    if set(get_args(hint) or (hint,)) <= {int, float, str, NoneType}:
        return Column(name)
    raise TypeError(f"Job.{name} is not a number, text or truth value: it needs a Column of its own")


def _changing() -> Iterator[Column]:
    listed = {column.name: column for column in (*_FIXED, *_EVERY_REVISION, *_CONVERTED)}
    hints = get_type_hints(Job)
    for field in fields(Job):
        if field.name == "usage":
            yield from (Column(name, f"usage.{name}") for name in _USAGE)
        elif field.name not in listed:
            yield plain_column(field.name, hints[field.name])


_CHANGING = (*_CONVERTED, *_changing())
"""Written with every change; the schema has defaults for a new job."""


def _names(columns: Sequence[Column]) -> str:
    return ", ".join(column.name for column in columns)


def _row_of(columns: Sequence[Column]) -> Callable[[Job], list[Any]]:
    """A function from a job to the values of these columns. One attrgetter is four times as fast as a loop."""
    read = attrgetter(*(column.source or column.name for column in columns))
    conversions = [(index, column.to_sql) for index, column in enumerate(columns) if column.to_sql is not None]

    def values_of(job: Job) -> list[Any]:
        values = list(read(job))
        for index, to_sql in conversions:
            values[index] = to_sql(values[index])
        return values

    return values_of


def _in_order_of_fields(columns: Sequence[Column]) -> Iterator[Column]:
    """The columns of each field of Job; fails at the import when a field has none."""
    by_name = {column.name: column for column in columns}
    for field in fields(Job):
        for name in _USAGE if field.name == "usage" else (field.name,):
            yield by_name[name]


_INSERTED = (*_FIXED, *_INDEXED, *_EVERY_REVISION)
_UPDATED = (*_EVERY_REVISION, *_CHANGING)
_SELECTED = tuple(_in_order_of_fields((*_FIXED, *_EVERY_REVISION, *_CHANGING)))
_CONVERSIONS = [(index, column.from_sql) for index, column in enumerate(_SELECTED) if column.from_sql is not None]

NAMES = tuple(column.name for column in _SELECTED)
"""
The columns of a SELECT for job_from_row(). They are in the order of Job's fields, so that a row becomes
a job without a dict in between, which would cost 1.4 µs more for each row (of 7.6).
"""

COLUMNS = _names(_SELECTED)
"""The same as SQL."""

_USAGE_SLICE = slice(NAMES.index(_USAGE[0]), NAMES.index(_USAGE[-1]) + 1)

INSERT = (
    f"INSERT INTO jobs ({_names(_INSERTED)}) VALUES ({', '.join('?' * len(_INSERTED))})"
    " ON CONFLICT (request_id) WHERE request_id IS NOT NULL DO NOTHING"
)
"""Adds a job; its parameters are new_row(job)."""

UPDATE = f"UPDATE jobs SET {', '.join(f'{column.name} = ?' for column in _UPDATED)} WHERE number = ?"
"""Writes a job's later record; its parameters are changed_row(job)."""

INSERT_FULL_SPEC = "INSERT INTO orders (number, spec) VALUES (?, ?)"
"""Writes a job's full spec, when its own row has only the shortened one."""

new_row = _row_of(_INSERTED)
changed_row = _row_of((*_UPDATED, _NUMBER))


def job_from_row(row: Sequence[Any]) -> Job:
    """The job of a row with the columns NAMES."""
    values = list(row)
    for index, from_sql in _CONVERSIONS:
        values[index] = from_sql(values[index])
    values[_USAGE_SLICE] = [Usage(*values[_USAGE_SLICE])]
    return Job(*values)


def labels_of(job: Job) -> list[tuple[str, str, int]]:
    """The rows of a job's labels: name, value, number."""
    return [(name, value, job.number) for name, value in job.spec.labels.items()]
